"""From a Hugging Face checkpoint to a verified ladder of GGUF tiers.

    source        what is to be converted: a checkpoint folder or a GGUF
    gguf_source   a GGUF that is converted: as it stands, or quantised or changed by an adapter
    adapter       a LoRA adapter, merged on the way; models made of a published file and ours
    dequantise    a GGUF as a checkpoint, to train from
    download      fetches a checkpoint from Hugging Face, with resume
    published     which GGUFs of a repository are meant
    ready         those GGUFs as a ladder, without converting
    checkpoint    opens a folder of safetensors and says what is wrong with it, numbers too
    architecture  llama.cpp's names, numbers and row order for its tensors
    rope          rotary embeddings under llama.cpp's keys
    vocabulary    its tokenizer as llama.cpp wants it
    special       its special tokens and chat template
    card          name, licence, languages, sampling values
    f16           writes the F16 GGUF, one tensor in memory at a time
    tokens        proves that llama.cpp reads text into the same tokens
    agreement     the same for special tokens, chats and added tokens
    importance    which columns matter: from a file, a text, our games
    tiers         quantises, in a process of its own that Ctrl-C can end
    verify        compares every tier with F16: KL, top-1, perplexity
    journal       what is made already, so that a second run goes on
    build         the whole way, resumable; `edge-router convert` runs it

transformers (for configuration and tokenizer) is imported here and nowhere
else, and only when a checkpoint is read; PyTorch is not needed.
"""
