echo "The demo has started."
sleep 5
echo "Test success!" > /output/output.txt
