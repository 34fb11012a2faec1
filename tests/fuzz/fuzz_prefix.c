/* Fuzz target: whatever bytes tokenizer_config.json has, it is refused or names a token. */
#include <stdlib.h>
#include <string.h>

#include "model/prefix.h"
#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char tokenizer_json[] =
    "{\"added_tokens\": [{\"id\": 4, \"content\": \"<s>\", \"special\": true},"
    "                    {\"id\": 5, \"content\": \"</s>\", \"special\": true}],"
    " \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false,"
    "                     \"use_regex\": true},"
    " \"decoder\": {\"type\": \"ByteLevel\"},"
    " \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2, \"s\": 3},"
    "             \"merges\": [\"a b\"]}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lode_tokenizer_t *tokenizer;
    const lode_architecture_t architecture = {.bos = -1, .eos = 5, .vocab = 6};
    int32_t id;
    if (!tokenizer)
        require(lode_tokenizer_parse(&tokenizer, tokenizer_json, sizeof tokenizer_json - 1,
                                     "fuzz") == LODE_OK);
    scratch_write("tokenizer_config.json", data, size);
    if (lode_prefix_token(&id, scratch_path(""), tokenizer, &architecture) != LODE_OK)
        require(lode_error_message()[0] != '\0');
    else
        require(id >= -1 && id < architecture.vocab);
    return 0;
}
