"""llama.cpp in process: tokens, tiers and caches. It knows no games and no routers.

ladder          several precisions of one model over one canonical KV cache
loading         a ladder's files, checked and loaded
tier            a loaded tier, the KV mode, what a step cost
tier_spec       what a ladder is asked for: tiers' files, and what the models run on
tier_sizes      how large a tier and its cache will be, and how many layers a GPU computes
generate        the decode loop: sample, show as text that grows, stop
verify          a draft read in batches by the tier that verifies it
lookup          what may come next, guessed from the text itself
sampling        the next token from logits, or a draft's where that may stay
constrain       the last part of a text is one of some strings
grammar         a text follows a grammar
slots           conversations that take turns on one ladder
clock           milliseconds of the stages, without the listeners'
threads         how many threads a decode runs on
machine         how many cores are ours
stop_flag       lets Ctrl-C end a decode at once
openings        beginnings of prompts, their KV kept on disk: whole and for its key, or not taken
llama           a context: decode, logits, spans of KV
llama_model     weights and vocabulary
llama_quantise  llama.cpp's quantiser, and a look at a product's inputs
library         the shared library: loaded, silenced, asked what it is; its log
quantise        an F16 GGUF in, a lower precision out; which type each weight gets
imatrix         which columns of a weight matter
gguf_file       a GGUF's header, read before llama.cpp does
gguf_bytes      little-endian values out of it
gguf_writer     a GGUF from bytes, with holes for zeros
tensor_values   a tensor's values, of whatever type
trust           SHA-256 of files, remembered; an unknown file is tried in a process of its own
file_notes      what was found out about files, remembered
fingerprint     are files builds of one model?
same_weights    how far apart two files' matrices lie, and how far quantising explains
"""
