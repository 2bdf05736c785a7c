"""What the SN layers of a file chose: read from ONNX files and checkpoints, shown as a table, a picture and JSON."""
