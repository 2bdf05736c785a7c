"""TensorRT engines: what they are built of and for, and what is in them. TensorRT itself is `sn_deploy.runtime.trt`."""
