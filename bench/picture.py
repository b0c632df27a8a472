"""A picture of measurements: one group of horizontal bars for each figure, each group on its own scale."""

from html import escape

_COLOURS = ("#8c8c8c", "#c7503f", "#1f5fa8", "#3f8f5b")
_WIDTH, _LABEL, _BAR, _GAP, _TOP = 760, 240, 14, 16, 70


def bars(title: str, found: dict[str, dict[str, float]]) -> str:
    """Return an SVG that compares the same figures of several systems.

    Args:
        title: what is compared.
        found: system -> figure -> value; every system has the same figures.
    """
    systems = list(found)
    labels = list(found[systems[0]])
    height = _TOP + len(labels) * (len(systems) * _BAR + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/><g font-size="12">',
        f'<text x="12" y="24" font-size="16" fill="#222222">{escape(title)}</text>',
    ]
    for index, system in enumerate(systems):
        x = 12 + index * 110
        parts.append(f'<rect x="{x}" y="38" width="12" height="12" fill="{_COLOURS[index]}"/>')
        parts.append(f'<text x="{x + 18}" y="48" fill="#222222">{escape(system)}</text>')
    top = _TOP
    for label in labels:
        parts.extend(_group(label, {system: found[system][label] for system in systems}, top))
        top += len(systems) * _BAR + _GAP
    return "\n".join([*parts, "</g></svg>", ""])


def _group(label: str, values: dict[str, float], top: int) -> list[str]:
    most = max(values.values())
    middle = top + len(values) * _BAR / 2 + 4
    parts = [f'<text x="{_LABEL - 10}" y="{middle:.0f}" text-anchor="end" fill="#222222">{escape(label)}</text>']
    for index, value in enumerate(values.values()):
        y = top + index * _BAR
        width = (_WIDTH - _LABEL - 80) * value / most
        parts.append(f'<rect x="{_LABEL}" y="{y}" width="{width:.1f}" height="{_BAR - 2}" fill="{_COLOURS[index]}"/>')
        text = f"{value:,.1f}" if most < 100 else f"{value:,.0f}"
        parts.append(f'<text x="{_LABEL + width + 6:.1f}" y="{y + _BAR - 4}" fill="#222222">{text}</text>')
    return parts
