"""What is compared: files and models opened in a runtime, all under the same names of inputs and outputs."""
