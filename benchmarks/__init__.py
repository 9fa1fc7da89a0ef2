"""What serving costs and gains, measured against the bare diffusers pipelines in the same run."""
