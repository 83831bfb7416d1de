"""An order log through the pipeline, without a broker."""
