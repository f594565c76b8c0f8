"""From a Hugging Face checkpoint to a verified ladder of GGUF tiers.

    checkpoint    opens a folder of safetensors and says what is wrong with it
    architecture  llama.cpp's names, numbers and row order for its tensors
    vocabulary    its tokenizer as llama.cpp wants it
    f16           writes the F16 GGUF, one tensor in memory at a time
    tokens        proves that llama.cpp reads text into the same tokens
    tiers         quantises, in a process of its own that Ctrl-C can end
    verify        compares every tier with F16: KL, top-1, perplexity
    build         the whole way, resumable; `edge-router convert` runs it

transformers (for configuration and tokenizer) is imported here and nowhere
else, and only when a checkpoint is read; PyTorch is not needed.
"""
