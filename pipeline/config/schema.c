#include "config/schema.h"

#include <math.h>
#include <string.h>

#include "config/config.h"
#include "config/value.h"

#define AT(field) .offset = offsetof(lode_config_t, field)
#define COUNT(field) .count_offset = offsetof(lode_config_t, field)
#define IN(type, field) .offset = offsetof(type, field)

enum {
    FORWARD = LODE_DECIDES_TRAIN | LODE_DECIDES_CALIBRATE | LODE_DECIDES_ACCUMULATE |
              LODE_DECIDES_MOMENTS | LODE_DECIDES_SUPERWEIGHT | LODE_DECIDES_COMPENSATE |
              LODE_DECIDES_QUANTIZE | LODE_DECIDES_EVALUATE | LODE_DECIDES_PROBE |
              LODE_DECIDES_AUDIT,
    /* What the perplexities of variants are, and those of other folders. */
    MEASURED = LODE_DECIDES_EVALUATE | LODE_DECIDES_AUDIT,
};

static const lode_key_t keys[] = {
    {.path = "name",
     .type = LODE_KEY_NAME,
     AT(name),
     .meaning = "the experiment; results go to <results>/<name>"},
    {.path = "seed",
     .type = LODE_KEY_INTEGER,
     .fallback = "42",
     .high = INFINITY,
     AT(seed),
     .stages = LODE_DECIDES_TOKENIZER | LODE_DECIDES_TOKENIZE | LODE_DECIDES_TRAIN |
               LODE_DECIDES_CLASSIFY | LODE_DECIDES_PRUNE | LODE_DECIDES_PROBE,
     .meaning = "seed of everything random"},
    {.path = "results",
     .type = LODE_KEY_PATH,
     .fallback = "\"results\"",
     AT(results),
     .meaning = "folder that results are written under"},
    {.path = "threads",
     .type = LODE_KEY_INTEGER,
     .fallback = "1",
     .low = 1,
     .high = 4096,
     AT(threads),
     .stages = FORWARD,
     .meaning = "threads of a rank; another number may change the last bits"},
    {.path = "memory",
     .type = LODE_KEY_BYTES,
     .fallback = "\"8G\"",
     .low = 1 << 20,
     .high = INFINITY,
     AT(memory),
     .meaning = "private memory of a rank: bytes, or a number with K, M, G or T (powers of 1024)"},
    {.path = "micro_batch",
     .type = LODE_KEY_INTEGER,
     .fallback = "2048",
     .low = 1,
     .high = 1 << 24,
     AT(micro_batch),
     .stages = FORWARD,
     .meaning = "tokens computed at a time; another number may change the last bits"},
    {.path = "replicas",
     .type = LODE_KEY_INTEGER,
     .fallback = "0",
     .high = 1 << 20,
     AT(replicas),
     .meaning =
         "copies of the model that the ranks form; 0: as few as leave no rank without a layer"},

    {.path = "models",
     .type = LODE_KEY_GROUPS,
     AT(models),
     COUNT(model_count),
     .element = sizeof(lode_config_model_t),
     .meaning = "the models, each a group of the keys below"},
    {.path = "models.[].name",
     .type = LODE_KEY_NAME,
     .distinct = true,
     IN(lode_config_model_t, name),
     .meaning = "name of the model's folder of results"},
    {.path = "models.[].path",
     .type = LODE_KEY_PATH,
     .may_be_empty = true,
     .fallback = "\"\"",
     IN(lode_config_model_t, path),
     .meaning = "Hugging Face folder; required unless steps is given"},
    {.path = "models.[].steps",
     .type = LODE_KEY_PATH,
     .may_be_empty = true,
     .fallback = "\"\"",
     IN(lode_config_model_t, steps),
     .meaning = "instead of path, a folder of folders: each with a number in its name, the one "
                "behind \"step\" or else the last, is a model <name>-<folder> of the series "
                "<name>"},
    {.path = "models.[].series",
     .type = LODE_KEY_NAME,
     .may_be_empty = true,
     .fallback = "\"\"",
     IN(lode_config_model_t, series),
     .meaning = "name of the run of training that the model shows at one step; empty: none"},
    {.path = "models.[].step",
     .type = LODE_KEY_INTEGER,
     .fallback = "-1",
     .low = -1,
     .high = INFINITY,
     IN(lode_config_model_t, step),
     .meaning = "that step; -1: none"},

    {.path = "calibration.corpus",
     .type = LODE_KEY_PATH,
     .may_be_empty = true,
     .fallback = "\"\"",
     AT(calibration.corpus),
     .meaning = "text that channel statistics are taken over; required unless merged is given"},
    {.path = "calibration.format",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"lines\"",
     .choices = lode_corpus_format_choices,
     AT(calibration.format),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "how the corpus is cut into texts"},
    {.path = "calibration.field",
     .type = LODE_KEY_TEXT,
     .fallback = "\"text\"",
     AT(calibration.field),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "member of a jsonl line that holds the text"},
    {.path = "calibration.select",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"first\"",
     .choices = lode_select_choices,
     AT(calibration.select),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "which texts are taken"},
    {.path = "calibration.sequences",
     .type = LODE_KEY_INTEGER,
     .fallback = "64",
     .low = 1,
     .high = 1 << 30,
     AT(calibration.sequences),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "sequences taken"},
    {.path = "calibration.max_length",
     .type = LODE_KEY_INTEGER,
     .fallback = "512",
     .low = 2,
     .high = 1 << 30,
     AT(calibration.max_length),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "tokens a sequence is cut at, BOS included; at most the model's positions"},
    {.path = "calibration.packing",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"none\"",
     .choices = lode_packing_choices,
     AT(calibration.packing),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "one text a sequence, or all texts joined and cut into equal sequences"},
    {.path = "calibration.padding",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"none\"",
     .choices = lode_padding_choices,
     AT(calibration.padding),
     .stages = LODE_DECIDES_CALIBRATE,
     .meaning = "eos: the input norms of wanda-channel count EOS padding up to max_length, as "
                "NodeLens has it"},
    {.path = "calibration.loss",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"mean\"",
     .choices = lode_loss_choices,
     AT(calibration.loss),
     .stages = LODE_DECIDES_ACCUMULATE,
     .meaning = "how the token losses of a sequence are combined"},
    {.path = "calibration.keep_logits",
     .type = LODE_KEY_INTEGER,
     .fallback = "0",
     .high = 1 << 30,
     AT(calibration.keep_logits),
     .stages = LODE_DECIDES_CALIBRATE,
     .meaning = "first sequences whose logits are kept"},
    {.path = "calibration.second_moment",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"auto\"",
     .choices = lode_second_moment_choices,
     AT(calibration.second_moment),
     .stages = LODE_DECIDES_MOMENTS,
     .meaning = "type in which the second moments of channels are kept; auto: float64, and only "
                "where something asked for needs them"},
    {.path = "calibration.merged",
     .type = LODE_KEY_PATH,
     .may_be_empty = true,
     .fallback = "\"\"",
     AT(calibration.merged),
     .meaning = "folder above those that lode merge wrote, one a model, named like it: their "
                "sequences and statistics are used, not the corpus"},

    {.path = "classify.core_fraction",
     .type = LODE_KEY_REAL,
     .fallback = "0.01",
     .high = 1,
     .low_open = true,
     .high_open = true,
     AT(classify.core_fraction),
     .stages = LODE_DECIDES_CLASSIFY | LODE_DECIDES_PRUNE,
     .meaning = "channels of a layer that form its core"},
    {.path = "classify.halo_fraction",
     .type = LODE_KEY_REAL,
     .fallback = "0.1",
     .high = 1,
     .low_open = true,
     AT(classify.halo_fraction),
     .stages = LODE_DECIDES_CLASSIFY,
     .meaning = "other channels of a layer that form its halo"},
    {.path = "classify.write_support",
     .type = LODE_KEY_INTEGER,
     .fallback = "0",
     .high = 1 << 30,
     AT(classify.write_support),
     .stages = LODE_DECIDES_CLASSIFY,
     .meaning = "hidden dimensions the core writes to; 0: a sixteenth of the hidden size, which it "
                "stays below"},
    {.path = "classify.redundancy.sequences",
     .type = LODE_KEY_INTEGER,
     .fallback = "8",
     .low = 1,
     .high = 1 << 30,
     AT(classify.redundancy.sequences),
     .stages = LODE_DECIDES_ACCUMULATE | LODE_DECIDES_CLASSIFY,
     .meaning = "first sequences that correlations are taken over"},
    {.path = "classify.redundancy.max_length",
     .type = LODE_KEY_INTEGER,
     .fallback = "256",
     .low = 2,
     .high = 1 << 30,
     AT(classify.redundancy.max_length),
     .stages = LODE_DECIDES_ACCUMULATE | LODE_DECIDES_CLASSIFY,
     .meaning = "first tokens of each of them"},
    {.path = "classify.redundancy.top_k",
     .type = LODE_KEY_INTEGER,
     .fallback = "5",
     .low = 1,
     .high = 1 << 30,
     AT(classify.redundancy.top_k),
     .stages = LODE_DECIDES_CLASSIFY,
     .meaning = "largest redundancies with core channels that are averaged"},
    {.path = "classify.redundancy.positive_only",
     .type = LODE_KEY_BOOLEAN,
     .fallback = "true",
     AT(classify.redundancy.positive_only),
     .stages = LODE_DECIDES_CLASSIFY,
     .meaning = "whether negative correlations count as none"},
    {.path = "classify.redundancy.correlation",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"scale-free\"",
     .choices = lode_correlation_choices,
     AT(classify.redundancy.correlation),
     .stages = LODE_DECIDES_CLASSIFY,
     .meaning = "Pearson's correlation, or NodeLens's, which a constant dominates"},
    {.path = "classify.protection.floor",
     .type = LODE_KEY_REAL,
     .fallback = "0.2",
     .high = 1,
     AT(classify.protection.floor),
     .stages = LODE_DECIDES_CLASSIFY,
     .meaning = "protection of the most redundant halo channel"},
    {.path = "classify.protection.power",
     .type = LODE_KEY_REAL,
     .fallback = "8.0",
     .high = 1000,
     .low_open = true,
     AT(classify.protection.power),
     .stages = LODE_DECIDES_CLASSIFY,
     .meaning = "exponent of the redundancy rank in the protection"},
    {.path = "classify.controls.channels",
     .type = LODE_KEY_INTEGER,
     .fallback = "256",
     .high = 1 << 20,
     AT(classify.controls.channels),
     .stages = LODE_DECIDES_CLASSIFY,
     .meaning = "random channels of a layer that its halo is compared with; 0: no controls"},
    {.path = "classify.controls.draws",
     .type = LODE_KEY_INTEGER,
     .fallback = "200",
     .low = 1,
     .high = 1 << 20,
     AT(classify.controls.draws),
     .stages = LODE_DECIDES_CLASSIFY,
     .meaning = "draws of every bootstrap, and random sets that the core is compared with"},
    {.path = "classify.controls.nodelens",
     .type = LODE_KEY_BOOLEAN,
     .fallback = "false",
     AT(classify.controls.nodelens),
     .stages = LODE_DECIDES_CLASSIFY,
     .meaning = "whether redundancy is also taken in NodeLens's form, to be compared"},
    {.path = "classify.controls.read_halo",
     .type = LODE_KEY_BOOLEAN,
     .fallback = "false",
     AT(classify.controls.read_halo),
     .stages = LODE_DECIDES_CLASSIFY,
     .meaning = "whether connectivity is also taken of what the next layer reads"},
    {.path = "classify.spectra",
     .type = LODE_KEY_CHOICE,
     .list = true,
     .may_be_empty = true,
     .fallback = "[ ]",
     .choices = lode_spectrum_choices,
     AT(classify.spectra),
     COUNT(classify.spectra_count),
     .stages = LODE_DECIDES_SPECTRA,
     .meaning = "matrices over all channels of a layer whose spectra are taken"},

    {.path = "superweight.prompts",
     .type = LODE_KEY_TEXT,
     .list = true,
     .may_be_empty = true,
     .fallback = "[ ]",
     AT(superweight.prompts),
     COUNT(superweight.prompt_count),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning =
         "texts whose forward passes show super weights, any; none: they are not looked for"},
    {.path = "superweight.bos",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"auto\"",
     .choices = lode_bos_choices,
     AT(superweight.bos),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "whether BOS begins each prompt; auto: where the tokenizer adds it"},
    {.path = "superweight.rule",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"relative\"",
     .choices = lode_spike_rule_choices,
     AT(superweight.rule),
     .stages = LODE_DECIDES_SUPERWEIGHT,
     .meaning = "what makes a value a spike: so many times the layer's own scale, or so much"},
    {.path = "superweight.ratio",
     .type = LODE_KEY_REAL,
     .fallback = "100.0",
     .low = 1,
     .high = INFINITY,
     AT(superweight.ratio),
     .stages = LODE_DECIDES_SUPERWEIGHT,
     .meaning = "times the layer's own scale that a spike exceeds, of the relative rule"},
    {.path = "superweight.absolute",
     .type = LODE_KEY_REAL,
     .fallback = "50.0",
     .high = INFINITY,
     .low_open = true,
     AT(superweight.absolute),
     .stages = LODE_DECIDES_SUPERWEIGHT,
     .meaning = "magnitude that a spike exceeds, of the absolute rule"},
    {.path = "superweight.product",
     .type = LODE_KEY_REAL,
     .fallback = "0.3",
     .high = 1,
     .low_open = true,
     AT(superweight.product),
     .stages = LODE_DECIDES_SUPERWEIGHT,
     .meaning = "least share of an output spike that the one product of input spike and weight "
                "explains"},
    {.path = "superweight.limit",
     .type = LODE_KEY_INTEGER,
     .fallback = "32",
     .low = 1,
     .high = 1 << 16,
     AT(superweight.limit),
     .stages = LODE_DECIDES_SUPERWEIGHT,
     .meaning = "most super weights that are looked for"},
    {.path = "superweight.experiments",
     .type = LODE_KEY_CHOICE,
     .list = true,
     .may_be_empty = true,
     .fallback = "[ ]",
     .choices = lode_experiment_choices,
     AT(superweight.experiments),
     COUNT(superweight.experiment_count),
     .stages = LODE_DECIDES_SUPERWEIGHT | LODE_DECIDES_EVALUATE,
     .meaning = "variants to be evaluated: without super weights; without them but with their "
                "activations; with them scaled; without the largest other weights of each matrix, "
                "or of the model"},
    {.path = "superweight.scales",
     .type = LODE_KEY_REAL,
     .list = true,
     .fallback = "( 0.0, 0.5, 0.8, 1.2, 1.5, 2.0, 3.0 )",
     .high = 1e6,
     AT(superweight.scales),
     COUNT(superweight.scale_count),
     .stages = LODE_DECIDES_EVALUATE,
     .meaning = "factors of the experiment scale"},
    {.path = "superweight.others_fraction",
     .type = LODE_KEY_REAL,
     .fallback = "1e-06",
     .high = 1,
     .high_open = true,
     AT(superweight.others_fraction),
     .stages = LODE_DECIDES_SUPERWEIGHT,
     .meaning = "share of each matrix that others-tensor takes, rounded down"},
    {.path = "superweight.others_least",
     .type = LODE_KEY_INTEGER,
     .fallback = "0",
     .high = 1 << 30,
     AT(superweight.others_least),
     .stages = LODE_DECIDES_SUPERWEIGHT,
     .meaning = "weights of each matrix that others-tensor takes at least"},
    {.path = "superweight.others_count",
     .type = LODE_KEY_INTEGER,
     .fallback = "7000",
     .low = 1,
     .high = 1 << 30,
     AT(superweight.others_count),
     .stages = LODE_DECIDES_SUPERWEIGHT,
     .meaning = "weights of the model that others-global takes"},
    {.path = "superweight.stopwords",
     .type = LODE_KEY_PATH,
     .may_be_empty = true,
     .fallback = "\"\"",
     AT(superweight.stopwords),
     .meaning = "file of words, one a line, whose probabilities are taken with and without super "
                "weights; empty: none"},
    {.path = "superweight.corpus",
     .type = LODE_KEY_PATH,
     .may_be_empty = true,
     .fallback = "\"\"",
     AT(superweight.corpus),
     .meaning = "texts that those probabilities are taken over"},
    {.path = "superweight.format",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"lines\"",
     .choices = lode_corpus_format_choices,
     AT(superweight.format),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "how that corpus is cut into texts"},
    {.path = "superweight.field",
     .type = LODE_KEY_TEXT,
     .fallback = "\"text\"",
     AT(superweight.field),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "member of a jsonl line that holds the text"},
    {.path = "superweight.sequences",
     .type = LODE_KEY_INTEGER,
     .fallback = "500",
     .low = 1,
     .high = 1 << 30,
     AT(superweight.sequences),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "texts taken, the first"},
    {.path = "superweight.max_length",
     .type = LODE_KEY_INTEGER,
     .fallback = "512",
     .low = 2,
     .high = 1 << 30,
     AT(superweight.max_length),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "tokens each of them is cut at, BOS included; at most the model's positions"},
    {.path = "superweight.known",
     .type = LODE_KEY_PATH,
     .may_be_empty = true,
     .fallback = "\"\"",
     AT(superweight.known),
     .meaning = "JSON list of published coordinates that what is found is compared with; empty: "
                "none"},

    {.path = "prune.methods",
     .type = LODE_KEY_CHOICE,
     .list = true,
     .may_be_empty = true,
     .fallback = "[ \"scar-prot\", \"lp\", \"wanda-channel\", \"magnitude\" ]",
     .choices = lode_method_choices,
     AT(prune.methods),
     COUNT(prune.method_count),
     .stages = LODE_DECIDES_PRUNE,
     .meaning = "scores that channels are ranked by"},
    {.path = "prune.cores",
     .type = LODE_KEY_CHOICE,
     .list = true,
     .fallback = "[ \"default\" ]",
     .choices = lode_core_choices,
     AT(prune.cores),
     COUNT(prune.core_count),
     .stages = LODE_DECIDES_PRUNE,
     .meaning = "channels that are never removed; default: the method's own"},
    {.path = "prune.sparsity",
     .type = LODE_KEY_REAL,
     .list = true,
     .fallback = "( 0.5 )",
     .high = 1,
     .low_open = true,
     .high_open = true,
     AT(prune.sparsity),
     COUNT(prune.sparsity_count),
     .stages = LODE_DECIDES_PRUNE,
     .meaning = "shares of channels removed"},
    {.path = "prune.allocation",
     .type = LODE_KEY_CHOICE,
     .list = true,
     .fallback = "[ \"uniform\" ]",
     .choices = lode_allocation_choices,
     AT(prune.allocation),
     COUNT(prune.allocation_count),
     .stages = LODE_DECIDES_PRUNE,
     .meaning = "the same share in every layer, or one ranking over all layers"},
    {.path = "prune.compensation",
     .type = LODE_KEY_CHOICE,
     .list = true,
     .fallback = "[ \"none\" ]",
     .choices = lode_compensation_choices,
     AT(prune.compensation),
     COUNT(prune.compensation_count),
     .stages = LODE_DECIDES_PRUNE | LODE_DECIDES_COMPENSATE | LODE_DECIDES_EVALUATE,
     .meaning = "what is done after pruning about what is missing"},
    {.path = "prune.ridge",
     .type = LODE_KEY_REAL,
     .fallback = "0.001",
     .high = INFINITY,
     .low_open = true,
     AT(prune.ridge),
     .stages = LODE_DECIDES_COMPENSATE,
     .meaning = "regularisation of least squares, in mean diagonals"},
    {.path = "prune.floor",
     .type = LODE_KEY_REAL,
     .fallback = "0.1",
     .high = 1,
     .high_open = true,
     AT(prune.floor),
     .stages = LODE_DECIDES_PRUNE,
     .meaning = "share of its channels that every layer keeps under global allocation"},

    {.path = "quantize.methods",
     .type = LODE_KEY_CHOICE,
     .list = true,
     .may_be_empty = true,
     .fallback = "[ ]",
     .choices = lode_quantizer_choices,
     AT(quantize.methods),
     COUNT(quantize.method_count),
     .stages = LODE_DECIDES_QUANTIZE,
     .meaning = "how weights are rounded: to nearest, or that with bits that follow the loss "
                "proxy; none: nothing is quantized"},
    {.path = "quantize.bits",
     .type = LODE_KEY_INTEGER,
     .list = true,
     .fallback = "( 4 )",
     .low = 2,
     .high = 8,
     AT(quantize.bits),
     COUNT(quantize.bit_count),
     .stages = LODE_DECIDES_QUANTIZE,
     .meaning = "bits of a weight; of method lp the average over feed-forward weights"},
    {.path = "quantize.granularity",
     .type = LODE_KEY_GRANULARITY,
     .list = true,
     .fallback = "[ \"channel\" ]",
     AT(quantize.granularity),
     COUNT(quantize.granularity_count),
     .stages = LODE_DECIDES_QUANTIZE,
     .meaning = "weights that share a scale: of a matrix, of a row, N neighbours in a row, or N² "
                "neighbours in the flattened matrix"},
    {.path = "quantize.clip",
     .type = LODE_KEY_CHOICE,
     .list = true,
     .fallback = "[ \"none\" ]",
     .choices = lode_clip_choices,
     AT(quantize.clip),
     COUNT(quantize.clip_count),
     .stages = LODE_DECIDES_QUANTIZE,
     .meaning = "whether weights beyond mean ± z·std of their block are clipped, with the z of "
                "least calibration error"},
    {.path = "quantize.z",
     .type = LODE_KEY_REAL,
     .list = true,
     .fallback = "( 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0, 20.0 )",
     .high = INFINITY,
     .low_open = true,
     AT(quantize.z),
     COUNT(quantize.z_count),
     .stages = LODE_DECIDES_QUANTIZE,
     .meaning = "candidates of that search; no clipping is always one more"},
    {.path = "quantize.protection",
     .type = LODE_KEY_CHOICE,
     .list = true,
     .fallback = "[ \"none\" ]",
     .choices = lode_protection_choices,
     AT(quantize.protection),
     COUNT(quantize.protection_count),
     .stages = LODE_DECIDES_QUANTIZE,
     .meaning =
         "weights that stay as stored: super weights, supernodes' rows and columns, or both"},
    {.path = "quantize.activations",
     .type = LODE_KEY_CHOICE,
     .list = true,
     .fallback = "[ \"none\" ]",
     .choices = lode_activations_quantized_choices,
     AT(quantize.activations),
     COUNT(quantize.activation_count),
     .stages = LODE_DECIDES_QUANTIZE,
     .meaning = "8-bit inputs of linear layers, one scale a token or a sequence; held: the super "
                "activation apart; smooth: SmoothQuant"},
    {.path = "quantize.smooth",
     .type = LODE_KEY_REAL,
     .fallback = "0.5",
     .high = 1,
     AT(quantize.smooth),
     .stages = LODE_DECIDES_QUANTIZE,
     .meaning = "exponent α of SmoothQuant: 0 leaves all of the range to inputs, 1 to weights"},
    {.path = "quantize.sequences",
     .type = LODE_KEY_INTEGER,
     .fallback = "16",
     .low = 1,
     .high = 1 << 30,
     AT(quantize.sequences),
     .stages = LODE_DECIDES_QUANTIZE,
     .meaning = "first calibration sequences that z and the smoothing are found on; at most all"},
    {.path = "quantize.tensors",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"all\"",
     .choices = lode_quantized_tensors_choices,
     AT(quantize.tensors),
     .stages = LODE_DECIDES_QUANTIZE,
     .meaning = "matrices quantized: the seven of each layer, or those of the feed-forward block; "
                "never embedding, head, norms and biases"},
    {.path = "quantize.pruned",
     .type = LODE_KEY_BOOLEAN,
     .fallback = "false",
     AT(quantize.pruned),
     .stages = LODE_DECIDES_QUANTIZE,
     .meaning = "whether pruned variants are quantized too, for the joint plan"},
    {.path = "quantize.budget",
     .type = LODE_KEY_BYTES,
     .fallback = "0",
     .high = INFINITY,
     AT(quantize.budget),
     .meaning = "bytes of weights that the joint plan of the report may take; 0: none"},

    {.path = "evaluate.perplexity",
     .type = LODE_KEY_GROUPS,
     .may_be_empty = true,
     .fallback = "( )",
     AT(evaluate.perplexity),
     COUNT(evaluate.perplexity_count),
     .element = sizeof(lode_config_perplexity_t),
     .stages = LODE_DECIDES_TOKENIZE | MEASURED,
     .meaning = "the perplexities of every variant, each a group of the keys below"},
    {.path = "evaluate.perplexity.[].name",
     .type = LODE_KEY_NAME,
     .distinct = true,
     IN(lode_config_perplexity_t, name),
     .stages = LODE_DECIDES_TOKENIZE | MEASURED,
     .meaning = "name of the perplexity in results"},
    {.path = "evaluate.perplexity.[].corpus",
     .type = LODE_KEY_PATH,
     IN(lode_config_perplexity_t, corpus),
     .meaning = "its text"},
    {.path = "evaluate.perplexity.[].format",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"text\"",
     .choices = lode_corpus_format_choices,
     IN(lode_config_perplexity_t, format),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "how the corpus becomes one text"},
    {.path = "evaluate.perplexity.[].field",
     .type = LODE_KEY_TEXT,
     .fallback = "\"text\"",
     IN(lode_config_perplexity_t, field),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "member of a jsonl line that holds the text"},
    {.path = "evaluate.perplexity.[].protocol",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"gptq\"",
     .choices = lode_protocol_choices,
     IN(lode_config_perplexity_t, protocol),
     .stages = LODE_DECIDES_TOKENIZE | MEASURED,
     .meaning = "which windows, which targets and which figure; perplexities of two protocols do "
                "not compare"},
    {.path = "evaluate.perplexity.[].bos",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"auto\"",
     .choices = lode_bos_choices,
     IN(lode_config_perplexity_t, bos),
     .stages = LODE_DECIDES_TOKENIZE | MEASURED,
     .meaning = "what stands before the text, for `llama.cpp` also first in every window; auto: "
                "what the tokenizer adds; always: BOS of config.json; never: nothing. `lm-eval` "
                "predicts that and the text from one token before them in any case: the "
                "tokenizer's BOS, or EOS where it has none"},
    {.path = "evaluate.perplexity.[].length",
     .type = LODE_KEY_INTEGER,
     .fallback = "2048",
     .low = 2,
     .high = 1 << 30,
     IN(lode_config_perplexity_t, length),
     .stages = MEASURED,
     .meaning = "tokens of a window, of `lm-eval` those that the model sees at once; at most the "
                "model's positions"},
    {.path = "evaluate.perplexity.[].pruned",
     .type = LODE_KEY_BOOLEAN,
     .fallback = "true",
     IN(lode_config_perplexity_t, pruned),
     .stages = LODE_DECIDES_EVALUATE,
     .meaning =
         "whether it is taken of the pruned and other variants too, or of the dense model alone"},
    {.path = "evaluate.tasks",
     .type = LODE_KEY_GROUPS,
     .may_be_empty = true,
     .fallback = "( )",
     AT(evaluate.tasks),
     COUNT(evaluate.task_count),
     .element = sizeof(lode_config_task_t),
     .stages = LODE_DECIDES_TOKENIZE | LODE_DECIDES_EVALUATE,
     .meaning = "multiple-choice and last-word sets that every variant answers, each a group of "
                "the keys below"},
    {.path = "evaluate.tasks.[].name",
     .type = LODE_KEY_NAME,
     .distinct = true,
     IN(lode_config_task_t, name),
     .stages = LODE_DECIDES_TOKENIZE | LODE_DECIDES_EVALUATE,
     .meaning = "name of the task in results"},
    {.path = "evaluate.tasks.[].path",
     .type = LODE_KEY_PATH,
     IN(lode_config_task_t, path),
     .meaning = "its items, one JSON object a line"},
    {.path = "evaluate.tasks.[].limit",
     .type = LODE_KEY_INTEGER,
     .fallback = "0",
     .high = 1 << 30,
     IN(lode_config_task_t, limit),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "items taken, the first ones; 0: all"},
    {.path = "evaluate.tasks.[].shots",
     .type = LODE_KEY_INTEGER,
     .fallback = "0",
     .high = 1 << 10,
     IN(lode_config_task_t, shots),
     .stages = LODE_DECIDES_TOKENIZE | LODE_DECIDES_EVALUATE,
     .meaning = "solved items of the file, drawn by seed, that stand before each item"},
    {.path = "evaluate.tasks.[].bos",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"auto\"",
     .choices = lode_bos_choices,
     IN(lode_config_task_t, bos),
     .stages = LODE_DECIDES_TOKENIZE | LODE_DECIDES_EVALUATE,
     .meaning = "whether BOS begins each text; auto: where the tokenizer adds it, as lm_eval"},
    {.path = "evaluate.tasks.[].pruned",
     .type = LODE_KEY_BOOLEAN,
     .fallback = "true",
     IN(lode_config_task_t, pruned),
     .stages = LODE_DECIDES_EVALUATE,
     .meaning = "whether the pruned and other variants answer too, or the dense model alone"},

    {.path = "probe.checks",
     .type = LODE_KEY_CHOICE,
     .list = true,
     .may_be_empty = true,
     .fallback = "[ ]",
     .choices = lode_probe_check_choices,
     AT(probe.checks),
     COUNT(probe.check_count),
     .stages = LODE_DECIDES_PROBE,
     .meaning = "causal checks: channels are taken out, and the loss is measured"},
    {.path = "probe.perplexity",
     .type = LODE_KEY_TEXT,
     .may_be_empty = true,
     .fallback = "\"\"",
     AT(probe.perplexity),
     .stages = LODE_DECIDES_PROBE,
     .meaning = "name of the perplexity that pruning checks are measured by; empty: the first"},
    {.path = "probe.corpus",
     .type = LODE_KEY_PATH,
     .may_be_empty = true,
     .fallback = "\"\"",
     AT(probe.corpus),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "texts that ablations are measured on; empty: the calibration sequences"},
    {.path = "probe.format",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"lines\"",
     .choices = lode_corpus_format_choices,
     AT(probe.format),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "how that corpus is cut into texts"},
    {.path = "probe.field",
     .type = LODE_KEY_TEXT,
     .fallback = "\"text\"",
     AT(probe.field),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "member of a jsonl line that holds the text"},
    {.path = "probe.sequences",
     .type = LODE_KEY_INTEGER,
     .fallback = "32",
     .low = 1,
     .high = 1 << 30,
     AT(probe.sequences),
     .stages = LODE_DECIDES_TOKENIZE | LODE_DECIDES_PROBE,
     .meaning = "texts that single channels and cores are ablated on, the first"},
    {.path = "probe.max_length",
     .type = LODE_KEY_INTEGER,
     .fallback = "512",
     .low = 2,
     .high = 1 << 30,
     AT(probe.max_length),
     .stages = LODE_DECIDES_TOKENIZE | LODE_DECIDES_PROBE,
     .meaning = "tokens each of them is cut at, BOS included"},
    {.path = "probe.sparsity",
     .type = LODE_KEY_REAL,
     .fallback = "0.5",
     .high = 1,
     .low_open = true,
     .high_open = true,
     AT(probe.sparsity),
     .stages = LODE_DECIDES_PROBE,
     .meaning = "share of channels removed by the pruning checks"},
    {.path = "probe.rates",
     .type = LODE_KEY_REAL,
     .list = true,
     .fallback = "( 0.0, 0.05, 0.1, 0.2, 0.3 )",
     .high = 1,
     AT(probe.rates),
     COUNT(probe.rate_count),
     .stages = LODE_DECIDES_PROBE,
     .meaning = "shares of the core that random masks of the dose response remove"},
    {.path = "probe.draws",
     .type = LODE_KEY_INTEGER,
     .fallback = "3",
     .low = 1,
     .high = 1 << 16,
     AT(probe.draws),
     .stages = LODE_DECIDES_PROBE,
     .meaning = "random masks of each share"},
    {.path = "probe.random_cores",
     .type = LODE_KEY_INTEGER,
     .fallback = "5",
     .low = 1,
     .high = 1 << 16,
     AT(probe.random_cores),
     .stages = LODE_DECIDES_PROBE,
     .meaning = "random cores and random sets that the core is compared with"},
    {.path = "probe.layer_step",
     .type = LODE_KEY_INTEGER,
     .fallback = "4",
     .low = 1,
     .high = 1 << 16,
     AT(probe.layer_step),
     .stages = LODE_DECIDES_PROBE,
     .meaning = "every so manieth layer is ablated, from the first on"},
    {.path = "probe.channels",
     .type = LODE_KEY_INTEGER,
     .fallback = "128",
     .low = 1,
     .high = 1 << 20,
     AT(probe.channels),
     .stages = LODE_DECIDES_PROBE,
     .meaning = "channels of a layer that are ablated one at a time"},
    {.path = "probe.bins",
     .type = LODE_KEY_INTEGER,
     .fallback = "8",
     .low = 1,
     .high = 1 << 16,
     AT(probe.bins),
     .stages = LODE_DECIDES_PROBE,
     .meaning = "quantile bins of the logarithm of the loss proxy they are drawn from"},
    {.path = "probe.halo_sequences",
     .type = LODE_KEY_INTEGER,
     .fallback = "16",
     .low = 1,
     .high = 1 << 30,
     AT(probe.halo_sequences),
     .stages = LODE_DECIDES_PROBE,
     .meaning = "texts that the halo is ablated on, the first; at most probe.sequences count"},
    {.path = "probe.halo_max_length",
     .type = LODE_KEY_INTEGER,
     .fallback = "256",
     .low = 2,
     .high = 1 << 30,
     AT(probe.halo_max_length),
     .stages = LODE_DECIDES_PROBE,
     .meaning = "tokens each of them is cut at"},

    {.path = "train.steps",
     .type = LODE_KEY_INTEGER,
     .fallback = "0",
     .high = 1 << 30,
     AT(train.steps),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "updates of the weights that every model is trained by, and then analysed at the "
                "steps of checkpoints; 0: nothing is trained"},
    {.path = "train.from",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"checkpoint\"",
     .choices = lode_train_from_choices,
     AT(train.from),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "what training starts from; scratch: random weights of the shape of the model's "
                "config.json, which is all that its folder needs beside a tokenizer"},
    {.path = "train.corpus",
     .type = LODE_KEY_PATH,
     .may_be_empty = true,
     .fallback = "\"\"",
     AT(train.corpus),
     .meaning = "text to train on; required with steps"},
    {.path = "train.format",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"text\"",
     .choices = lode_corpus_format_choices,
     AT(train.format),
     .stages = LODE_DECIDES_TOKENIZER | LODE_DECIDES_TOKENIZE,
     .meaning = "how it is cut into texts"},
    {.path = "train.field",
     .type = LODE_KEY_TEXT,
     .fallback = "\"text\"",
     AT(train.field),
     .stages = LODE_DECIDES_TOKENIZER | LODE_DECIDES_TOKENIZE,
     .meaning = "member of a jsonl line that holds the text"},
    {.path = "train.length",
     .type = LODE_KEY_INTEGER,
     .fallback = "256",
     .low = 2,
     .high = 1 << 30,
     AT(train.length),
     .stages = LODE_DECIDES_TOKENIZE | LODE_DECIDES_TRAIN,
     .meaning =
         "tokens of a sequence: all texts one after the other, cut; at most the model's positions"},
    {.path = "train.batch",
     .type = LODE_KEY_INTEGER,
     .fallback = "16",
     .low = 1,
     .high = 1 << 30,
     AT(train.batch),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "sequences of a step"},
    {.path = "train.groups",
     .type = LODE_KEY_INTEGER,
     .fallback = "1",
     .low = 1,
     .high = 1 << 20,
     AT(train.groups),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "parts of a step that replicas can share, which decides in what order gradients "
                "are added: a power of two that divides the micro-batches of a step"},
    {.path = "train.learning_rate",
     .type = LODE_KEY_REAL,
     .fallback = "0.001",
     .high = INFINITY,
     .low_open = true,
     AT(train.learning_rate),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "highest learning rate of AdamW"},
    {.path = "train.warmup",
     .type = LODE_KEY_INTEGER,
     .fallback = "0",
     .high = 1 << 30,
     AT(train.warmup),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "first steps, over which the rate grows to that"},
    {.path = "train.decay",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"cosine\"",
     .choices = lode_train_decay_choices,
     AT(train.decay),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "how it falls in the others"},
    {.path = "train.final",
     .type = LODE_KEY_REAL,
     .fallback = "0.1",
     .high = 1,
     AT(train.final),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "share of the rate that is left at the end"},
    {.path = "train.beta1",
     .type = LODE_KEY_REAL,
     .fallback = "0.9",
     .high = 1,
     .high_open = true,
     AT(train.beta1),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "decay of AdamW's mean of gradients"},
    {.path = "train.beta2",
     .type = LODE_KEY_REAL,
     .fallback = "0.95",
     .high = 1,
     .high_open = true,
     AT(train.beta2),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "decay of its mean of squares"},
    {.path = "train.epsilon",
     .type = LODE_KEY_REAL,
     .fallback = "1e-08",
     .high = INFINITY,
     .low_open = true,
     AT(train.epsilon),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "added to the root of the mean of squares"},
    {.path = "train.clip",
     .type = LODE_KEY_REAL,
     .fallback = "1.0",
     .high = INFINITY,
     AT(train.clip),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "norm that the gradient of a step is cut to; 0: it is not"},
    {.path = "train.weight_decay.matrices",
     .type = LODE_KEY_REAL,
     .fallback = "0.1",
     .high = INFINITY,
     AT(train.weight_decay.matrices),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "decoupled weight decay of matrices"},
    {.path = "train.weight_decay.embeddings",
     .type = LODE_KEY_REAL,
     .fallback = "0.1",
     .high = INFINITY,
     AT(train.weight_decay.embeddings),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "of the embeddings of tokens and positions, and of the head"},
    {.path = "train.weight_decay.vectors",
     .type = LODE_KEY_REAL,
     .fallback = "0.0",
     .high = INFINITY,
     AT(train.weight_decay.vectors),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "of norms and biases"},
    {.path = "train.init.deviation",
     .type = LODE_KEY_REAL,
     .fallback = "0.02",
     .high = INFINITY,
     .low_open = true,
     AT(train.init.deviation),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "standard deviation of random weights"},
    {.path = "train.init.depth",
     .type = LODE_KEY_BOOLEAN,
     .fallback = "true",
     AT(train.init.depth),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "whether that of the matrices that write into the residual stream is divided by "
                "the root of twice the number of layers"},
    {.path = "train.checkpoints",
     .type = LODE_KEY_INTEGER,
     .list = true,
     .may_be_empty = true,
     .fallback = "[ ]",
     .high = 1 << 30,
     AT(train.checkpoints),
     COUNT(train.checkpoint_count),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "steps after which the weights are written as a Hugging Face folder and analysed, "
                "0 before the first; after the last step always"},
    {.path = "train.dtype",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"bf16\"",
     .choices = lode_train_dtype_choices,
     AT(train.dtype),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "type of the weights in these folders"},
    {.path = "train.save",
     .type = LODE_KEY_INTEGER,
     .fallback = "100",
     .low = 1,
     .high = 1 << 30,
     AT(train.save),
     .meaning = "steps between states that an interrupted training goes on from"},
    {.path = "train.validation.corpus",
     .type = LODE_KEY_PATH,
     .may_be_empty = true,
     .fallback = "\"\"",
     AT(train.validation.corpus),
     .meaning = "text that the loss is measured on without training; empty: none"},
    {.path = "train.validation.format",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"text\"",
     .choices = lode_corpus_format_choices,
     AT(train.validation.format),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "how it is cut into texts"},
    {.path = "train.validation.field",
     .type = LODE_KEY_TEXT,
     .fallback = "\"text\"",
     AT(train.validation.field),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "member of a jsonl line that holds the text"},
    {.path = "train.validation.sequences",
     .type = LODE_KEY_INTEGER,
     .fallback = "64",
     .low = 1,
     .high = 1 << 30,
     AT(train.validation.sequences),
     .stages = LODE_DECIDES_TOKENIZE,
     .meaning = "its first sequences, which are taken"},
    {.path = "train.validation.every",
     .type = LODE_KEY_INTEGER,
     .fallback = "0",
     .high = 1 << 30,
     AT(train.validation.every),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "steps between measurements; 0: only before the first and after the last step"},
    {.path = "train.tokenizer.vocabulary",
     .type = LODE_KEY_INTEGER,
     .fallback = "0",
     .high = 1 << 24,
     AT(train.tokenizer.vocabulary),
     .stages = LODE_DECIDES_TOKENIZER,
     .meaning = "tokens of a tokenizer that is made from train.corpus, for training from scratch; "
                "0: the tokenizer of the model's folder is used"},
    {.path = "train.tokenizer.sample",
     .type = LODE_KEY_BYTES,
     .fallback = "0",
     .high = INFINITY,
     AT(train.tokenizer.sample),
     .stages = LODE_DECIDES_TOKENIZER,
     .meaning = "text it is made from at most, as a seeded sample of lines; 0: all"},
    {.path = "train.entropy.weight",
     .type = LODE_KEY_REAL,
     .fallback = "0.0",
     .high = INFINITY,
     AT(train.entropy.weight),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "weight in the loss of the mean entropy of the channels' outgoing weights"},
    {.path = "train.entropy.form",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"absolute\"",
     .choices = lode_entropy_form_choices,
     AT(train.entropy.form),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "what the probabilities of that entropy are proportional to: the weights' "
                "magnitudes, their squares, or the exponentials of their magnitudes"},
    {.path = "train.entropy.schedule",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"constant\"",
     .choices = lode_entropy_schedule_choices,
     AT(train.entropy.schedule),
     .stages = LODE_DECIDES_TRAIN,
     .meaning =
         "how its weight goes over all steps: constant, growing from zero, or falling to zero"},
    {.path = "train.entropy.layers",
     .type = LODE_KEY_INTEGER,
     .list = true,
     .may_be_empty = true,
     .fallback = "[ ]",
     .high = 1 << 20,
     AT(train.entropy.layers),
     COUNT(train.entropy.layer_count),
     .stages = LODE_DECIDES_TRAIN,
     .meaning = "layers that it is taken of; none: all"},

    {.path = "export",
     .type = LODE_KEY_GROUPS,
     .may_be_empty = true,
     .fallback = "( )",
     AT(exports),
     COUNT(export_count),
     .element = sizeof(lode_config_export_t),
     .stages = LODE_DECIDES_EXPORT,
     .meaning = "variants to be written as Hugging Face folders, each a group of the keys below"},
    {.path = "export.[].variant",
     .type = LODE_KEY_TEXT,
     IN(lode_config_export_t, variant),
     .stages = LODE_DECIDES_EXPORT,
     .meaning = "variant as results name it, like scar-prot@0.5+least-squares or "
                "int4-channel:super-weight, or dense"},
    {.path = "export.[].path",
     .type = LODE_KEY_PATH,
     .distinct = true,
     IN(lode_config_export_t, path),
     .stages = LODE_DECIDES_EXPORT,
     .meaning = "folder to be written; with several models or a sweep, one below it for each"},
    {.path = "export.[].layout",
     .type = LODE_KEY_CHOICE,
     .fallback = "\"auto\"",
     .choices = lode_export_layout_choices,
     IN(lode_config_export_t, layout),
     .stages = LODE_DECIDES_EXPORT,
     .meaning = "sliced to the width kept, or padded with zeros to the widest layer; auto: sliced "
                "where all layers keep the same width"},
    {.path = "export.[].codes",
     .type = LODE_KEY_BOOLEAN,
     .fallback = "false",
     IN(lode_config_export_t, codes),
     .stages = LODE_DECIDES_EXPORT,
     .meaning = "whether the integers of quantized weights lie beside them too, a byte each"},

    {.path = "audit.folders",
     .type = LODE_KEY_GROUPS,
     .may_be_empty = true,
     .fallback = "( )",
     AT(audit.folders),
     COUNT(audit.folder_count),
     .element = sizeof(lode_config_folder_t),
     .stages = LODE_DECIDES_AUDIT,
     .meaning = "other versions of the models, pruned, quantized or trained on by anybody, each a "
                "group of the keys below"},
    {.path = "audit.folders.[].name",
     .type = LODE_KEY_NAME,
     .distinct = true,
     IN(lode_config_folder_t, name),
     .stages = LODE_DECIDES_AUDIT,
     .meaning = "name of the version in results"},
    {.path = "audit.folders.[].path",
     .type = LODE_KEY_PATH,
     IN(lode_config_folder_t, path),
     .meaning = "its Hugging Face folder"},
    {.path = "audit.folders.[].model",
     .type = LODE_KEY_TEXT,
     .may_be_empty = true,
     .fallback = "\"\"",
     IN(lode_config_folder_t, model),
     .stages = LODE_DECIDES_AUDIT,
     .meaning = "name of the model that it is a version of; empty: of every one"},
    {.path = "audit.loss_proxy",
     .type = LODE_KEY_BOOLEAN,
     .fallback = "true",
     AT(audit.loss_proxy),
     .stages = LODE_DECIDES_AUDIT,
     .meaning = "whether the loss proxy is measured again in each folder"},

    {.path = "sweep",
     .type = LODE_KEY_GROUPS,
     .may_be_empty = true,
     .fallback = "( )",
     AT(sweep),
     COUNT(sweep_count),
     .element = sizeof(lode_config_sweep_t),
     .meaning = "keys that take several values; several keys multiply"},
    {.path = "sweep.[].key",
     .type = LODE_KEY_TEXT,
     .distinct = true,
     IN(lode_config_sweep_t, key),
     .meaning = "path of a key of this table, like classify.core_fraction or models.[0].path"},
    {.path = "sweep.[].values",
     .type = LODE_KEY_VALUES,
     .list = true,
     IN(lode_config_sweep_t, values),
     .count_offset = offsetof(lode_config_sweep_t, value_count),
     .meaning = "the values it takes"},
};

/* The fields of LODE_KEY_CHOICE are written as int. */
_Static_assert(
    sizeof(lode_method_t) == sizeof(int) && sizeof(lode_core_t) == sizeof(int) &&
        sizeof(lode_allocation_t) == sizeof(int) && sizeof(lode_compensation_t) == sizeof(int) &&
        sizeof(lode_select_t) == sizeof(int) && sizeof(lode_packing_t) == sizeof(int) &&
        sizeof(lode_padding_t) == sizeof(int) && sizeof(lode_loss_t) == sizeof(int) &&
        sizeof(lode_protocol_t) == sizeof(int) && sizeof(lode_corpus_format_t) == sizeof(int) &&
        sizeof(lode_second_moment_t) == sizeof(int) && sizeof(lode_correlation_t) == sizeof(int) &&
        sizeof(lode_spectrum_t) == sizeof(int) && sizeof(lode_probe_check_t) == sizeof(int) &&
        sizeof(lode_export_layout_t) == sizeof(int) && sizeof(lode_bos_t) == sizeof(int) &&
        sizeof(lode_spike_rule_t) == sizeof(int) && sizeof(lode_experiment_t) == sizeof(int) &&
        sizeof(lode_quantizer_t) == sizeof(int) && sizeof(lode_protection_t) == sizeof(int) &&
        sizeof(lode_clip_t) == sizeof(int) && sizeof(lode_activations_quantized_t) == sizeof(int) &&
        sizeof(lode_quantized_tensors_t) == sizeof(int) &&
        sizeof(lode_train_from_t) == sizeof(int) && sizeof(lode_train_decay_t) == sizeof(int) &&
        sizeof(lode_train_dtype_t) == sizeof(int) && sizeof(lode_entropy_form_t) == sizeof(int) &&
        sizeof(lode_entropy_schedule_t) == sizeof(int),
    "enums of choices are as wide as int");

enum { KEY_COUNT = sizeof keys / sizeof *keys, NEAR_MAX = 64 };

const lode_key_t *lode_schema(int64_t *count) {
    *count = KEY_COUNT;
    return keys;
}

const lode_key_t *lode_schema_find(const char *path) {
    for (int64_t i = 0; i < KEY_COUNT; i++)
        if (strcmp(keys[i].path, path) == 0)
            return &keys[i];
    return NULL;
}

const lode_key_t *lode_schema_owner(const lode_key_t *key) {
    const char *mark = strstr(key->path, ".[].");
    if (!mark)
        return NULL;
    size_t length = (size_t)(mark - key->path);
    for (int64_t i = 0; i < KEY_COUNT; i++)
        if (strlen(keys[i].path) == length && memcmp(keys[i].path, key->path, length) == 0)
            return &keys[i];
    return NULL;
}

const char *lode_schema_local_path(const lode_key_t *key) {
    const char *mark = strstr(key->path, ".[].");
    return mark ? mark + strlen(".[].") : key->path;
}

/* The part of `path` below the group, NULL where it is not part of it. */
static const char *below(const char *path, const char *group) {
    size_t length = strlen(group);
    if (length == 0)
        return path;
    return strncmp(path, group, length) == 0 && path[length] == '.' ? path + length + 1 : NULL;
}

bool lode_schema_is_group(const char *path) {
    for (int64_t i = 0; i < KEY_COUNT; i++)
        if (below(keys[i].path, path))
            return true;
    return false;
}

/* In the order of their bits. */
static const char *const stages[] = {"tokenizer",  "tokenize", "train",      "calibrate",
                                     "accumulate", "moments",  "classify",   "superweight",
                                     "spectra",    "prune",    "compensate", "quantize",
                                     "evaluate",   "probe",    "export",     "audit"};
enum { STAGES = sizeof stages / sizeof *stages };

unsigned lode_schema_stage(const char *name) {
    for (unsigned i = 0; i < STAGES; i++)
        if (strcmp(stages[i], name) == 0)
            return 1u << i;
    return 0;
}

lode_status_t lode_schema_stages_text(lode_buffer_t *text) {
    for (int i = 0; i < STAGES; i++) {
        const char *separator = i == 0 ? "" : i + 1 < STAGES ? ", " : " and ";
        LODE_TRY(lode_buffer_printf(text, "%s%s", separator, stages[i]));
    }
    return LODE_OK;
}

static size_t smallest(size_t a, size_t b, size_t c) {
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

/* Damerau's distance: insertions, deletions, substitutions and swaps of neighbours that turn
 * a[a_length] into b[b_length]; NEAR_MAX where either is too long to be a key. */
static size_t edit_distance(const char *a, size_t a_length, const char *b, size_t b_length) {
    size_t rows[3][NEAR_MAX + 1]; /* the row before last, the last one, this one */
    if (a_length >= NEAR_MAX || b_length >= NEAR_MAX)
        return NEAR_MAX;
    size_t *before = rows[0], *last = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b_length; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        size_t *oldest = before;
        before = last;
        last = row;
        row = oldest;
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t change = last[j - 1] + (a[i - 1] != b[j - 1]);
            row[j] = smallest(last[j] + 1, row[j - 1] + 1, change);
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && before[j - 2] + 1 < row[j])
                row[j] = before[j - 2] + 1;
        }
    }
    return row[b_length];
}

/* How many edits still make a typing error of a word. */
static size_t near_limit(const char *name) {
    return 1 + strlen(name) / 4;
}

const char *lode_schema_near_choice(const lode_choice_t *choices, const char *name) {
    const char *nearest = NULL;
    size_t least = near_limit(name) + 1;
    for (; choices->name; choices++) {
        size_t edits = edit_distance(name, strlen(name), choices->name, strlen(choices->name));
        if (edits < least) {
            least = edits;
            nearest = choices->name;
        }
    }
    return nearest;
}

const char *lode_config_nearest(const char *name, const char *const *names, int64_t count) {
    const char *nearest = NULL;
    size_t least = near_limit(name) + 1;
    for (int64_t i = 0; i < count; i++) {
        size_t edits = edit_distance(name, strlen(name), names[i], strlen(names[i]));
        if (edits < least) {
            least = edits;
            nearest = names[i];
        }
    }
    return nearest;
}

/* Appends every key of the group once. */
static lode_status_t append_group(lode_buffer_t *text, const char *group) {
    const char *previous = "";
    size_t previous_length = 0;
    for (int64_t i = 0; i < KEY_COUNT; i++) {
        const char *key = below(keys[i].path, group);
        size_t length = key ? strcspn(key, ".") : 0;
        if (length == 0 ||
            (length == previous_length && memcmp(key, previous, previous_length) == 0))
            continue;
        LODE_TRY(
            lode_buffer_printf(text, "%s%.*s", previous_length > 0 ? ", " : "", (int)length, key));
        previous = key;
        previous_length = length;
    }
    return LODE_OK;
}

lode_status_t lode_schema_suggest(lode_buffer_t *text, const char *group, const char *name) {
    const char *nearest = NULL;
    size_t nearest_length = 0, least = near_limit(name) + 1;
    for (int64_t i = 0; i < KEY_COUNT; i++) {
        const char *key = below(keys[i].path, group);
        size_t length = key ? strcspn(key, ".") : 0;
        size_t edits = key ? edit_distance(name, strlen(name), key, length) : NEAR_MAX;
        if (edits < least) {
            least = edits;
            nearest = key;
            nearest_length = length;
        }
    }
    if (nearest)
        return lode_buffer_printf(text, "did you mean \"%.*s\"?", (int)nearest_length, nearest);
    for (int64_t i = 0; i < KEY_COUNT; i++) {
        const char *dot = strrchr(keys[i].path, '.');
        if (dot && strcmp(dot + 1, name) == 0)
            return lode_buffer_printf(text, "did you mean \"%s\"?", keys[i].path);
    }
    LODE_TRY(lode_buffer_printf(text, "the keys here are "));
    return append_group(text, group);
}

/* Appends a bound as short as it can be written. */
static lode_status_t append_bound(lode_buffer_t *text, double bound) {
    return lode_buffer_printf(text, "%.15g", bound);
}

lode_status_t lode_schema_range_text(const lode_key_t *key, lode_buffer_t *text) {
    if (key->type != LODE_KEY_INTEGER && key->type != LODE_KEY_REAL && key->type != LODE_KEY_BYTES)
        return LODE_OK;
    LODE_TRY(lode_buffer_printf(text, key->low_open ? "above " : "at least "));
    LODE_TRY(append_bound(text, key->low));
    if (isinf(key->high))
        return LODE_OK;
    LODE_TRY(lode_buffer_printf(text, key->high_open ? " and below " : " and at most "));
    return append_bound(text, key->high);
}

lode_status_t lode_schema_choices_text(const lode_choice_t *choices, lode_buffer_t *text) {
    const char *separator = "";
    for (; choices->name; choices++) {
        LODE_TRY(lode_buffer_printf(text, "%s%s", separator, choices->name));
        separator = ", ";
    }
    return LODE_OK;
}

lode_status_t lode_schema_type_text(const lode_key_t *key, lode_buffer_t *text) {
    static const char *const one[] = {
        [LODE_KEY_INTEGER] = "integer",
        [LODE_KEY_REAL] = "number",
        [LODE_KEY_BOOLEAN] = "true or false",
        [LODE_KEY_TEXT] = "string",
        [LODE_KEY_NAME] = "name",
        [LODE_KEY_PATH] = "path",
        [LODE_KEY_BYTES] = "size",
        [LODE_KEY_CHOICE] = "choice",
        [LODE_KEY_GRANULARITY] = "string",
        [LODE_KEY_GROUPS] = "list of groups",
        [LODE_KEY_VALUES] = "value",
    };
    return lode_buffer_printf(text, key->list ? "list of %ss" : "%s", one[key->type]);
}

void lode_schema_path(char *schema_path, size_t size, const char *path) {
    size_t length = 0;
    for (; *path && length + 1 < size; path++) {
        schema_path[length++] = *path;
        if (*path == '[')
            path += strspn(path + 1, "0123456789");
    }
    schema_path[length] = '\0';
}

/* One row of the documentation. */
static lode_status_t describe_key(const lode_key_t *key, lode_buffer_t *text) {
    LODE_TRY(lode_buffer_printf(text, "| `%s` | ", key->path));
    LODE_TRY(lode_schema_type_text(key, text));
    if (key->fallback)
        LODE_TRY(lode_buffer_printf(text, " | `%s` | ", key->fallback));
    else
        LODE_TRY(lode_buffer_printf(text, " | required | "));
    if (key->choices)
        LODE_TRY(lode_schema_choices_text(key->choices, text));
    if (key->type == LODE_KEY_GRANULARITY)
        LODE_TRY(lode_buffer_printf(text,
                                    "tensor, channel, group-N (N at least %d), block-N (N "
                                    "from %d to %d)",
                                    (int)LODE_GRANULARITY_LEAST, (int)LODE_GRANULARITY_LEAST,
                                    (int)LODE_GRANULARITY_MOST_BLOCK));
    LODE_TRY(lode_schema_range_text(key, text));
    return lode_buffer_printf(text, " | %s |\n", key->meaning);
}

lode_status_t lode_config_describe(lode_buffer_t *text) {
    LODE_TRY(lode_buffer_printf(text, "| key | type | default | range | meaning |\n"
                                      "|---|---|---|---|---|\n"));
    for (int64_t i = 0; i < KEY_COUNT; i++)
        LODE_TRY(describe_key(&keys[i], text));
    return LODE_OK;
}
