"""The share group messages of the Kafka protocol, in the form that kafka-python loads."""
