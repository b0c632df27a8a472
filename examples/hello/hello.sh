echo "Hello from a container."
sleep 5
echo "Test success!" > /output/output.txt
