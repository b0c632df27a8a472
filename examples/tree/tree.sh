set -e
cd /output
for month in 01 02 03; do
    mkdir -p "reports/2030/$month"
    for day in 1 2; do
        echo "report of $month-$day" > "reports/2030/$month/day $day.txt"
    done
done
mkdir -p empty-folders-are-not-kept
echo "done" > index.txt
find . -type f | sort
