set -e
cd /texts
find . -type f | sort | while read -r file; do
    words=$(wc -w < "$file")
    echo "$words ${file#./}"
done | tee /output/counts.txt
cat $(find . -type f) | tr -cs 'A-Za-z' '\n' | tr 'A-Z' 'a-z' | sort | uniq -c | sort -rn > /output/words.txt
echo "counted $(wc -l < /output/counts.txt) files"
