"""The process that answers over HTTP beside a worker, so that whoever asks holds no order up."""
