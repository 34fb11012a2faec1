#include "plan/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/statistics.h"
#include "base/memory.h"
#include "plan/show.h"

/* --- what is asked --------------------------------------------------------------------------- */

/* A typical experiment for a model that is nothing but a config.json; the corpora need not exist.
 */
static const char standard_text[] =
    "name = \"plan\"; results = \"results\";\n"
    "models = ( { name = \"%s\"; path = \"%s\"; } );\n"
    "calibration = { corpus = \"calibration.txt\"; sequences = 128; max_length = %lld; };\n"
    "prune = { methods = [ \"scar-prot\", \"lp\", \"wanda-channel\", \"magnitude\" ];\n"
    "          sparsity = ( 0.3, 0.5 ); };\n"
    "evaluate = { perplexity = ( { name = \"wikitext2\"; corpus = \"wikitext2.txt\";\n"
    "             format = \"text\"; protocol = \"gptq\"; length = %lld; } ); };\n";
enum { STANDARD_LENGTH = 2048 };

static bool ends_with(const char *text, const char *end) {
    const size_t length = strlen(text), most = strlen(end);
    return length >= most && strcmp(text + length - most, end) == 0;
}

static bool is_model(const char *path) {
    struct stat info;
    return ends_with(path, ".json") || (stat(path, &info) == 0 && S_ISDIR(info.st_mode));
}

/* A name that may stand in results: the last part of the path that says something, without what no
 * name may have. */
static void name_of(char name[64], const char *path) {
    size_t end = strlen(path), length = 0;
    if (ends_with(path, "/config.json"))
        end -= strlen("/config.json");
    else if (ends_with(path, ".json"))
        end -= strlen(".json");
    while (end > 0 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    for (size_t i = start; i < end && length < 63; i++) {
        const char c = path[i];
        const bool fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || (c && strchr("._-", c));
        name[length++] = fits ? c : '-';
    }
    name[length] = '\0';
    if (length == 0 || name[0] == '.')
        snprintf(name, 64, "model");
}

/* The path as the text of an experiment may have it. */
static lode_status_t append_quoted(lode_buffer_t *text, const char *path) {
    for (; *path; path++)
        LODE_TRY(lode_buffer_printf(text, strchr("\"\\", *path) ? "\\%c" : "%c", *path));
    return LODE_OK;
}

static lode_status_t load_standard(lode_config_t **config, const lode_plan_request_t *request) {
    lode_forecast_model_t model;
    lode_buffer_t path = {0}, text = {0};
    char name[64];
    *config = NULL;
    LODE_TRY(lode_forecast_model(&model, request->path));
    const int64_t positions = model.architecture.max_positions;
    const int64_t length = positions < STANDARD_LENGTH ? positions : STANDARD_LENGTH;
    name_of(name, request->path);
    lode_status_t status = append_quoted(&path, request->path);
    if (status == LODE_OK)
        status = lode_buffer_printf(&text, standard_text, name, path.data, (long long)length,
                                    (long long)length);
    if (status == LODE_OK)
        status = lode_config_load_text(config, text.data, "the plan's typical experiment",
                                       request->overrides, request->override_count);
    lode_buffer_free(&path);
    lode_buffer_free(&text);
    return status;
}

/* Bytes as the experiment's key `memory` has them. */
static lode_status_t parse_bytes(int64_t *bytes, const char *text) {
    char *end;
    const double value = strtod(text, &end);
    const char *units = "KMGT", *unit = *end ? strchr(units, *end) : NULL;
    const bool sound = end != text && value > 0 && (*end == '\0' || (unit && end[1] == '\0'));
    double scale = 1;
    for (const char *u = units; unit && u <= unit; u++)
        scale *= 1024;
    if (!sound || value * scale >= 0x1p62)
        return lode_fail(LODE_ERR_USAGE,
                         "--memory-per-node %s: is no number of bytes; write it like 256G", text);
    *bytes = (int64_t)(value * scale);
    return LODE_OK;
}

/* --- sweeps ---------------------------------------------------------------------------------- */

/* Stages on whose results a stage depends, as its fingerprint has it (common/fingerprint.h). */
static unsigned before(lode_stage_t stage) {
    const unsigned tokenize = 1u << LODE_STAGE_TOKENIZER | 1u << LODE_STAGE_TOKENIZE,
                   statistics = tokenize | 1u << LODE_STAGE_CALIBRATE | 1u << LODE_STAGE_ACCUMULATE,
                   classify = statistics | 1u << LODE_STAGE_CLASSIFY,
                   superweight = classify | 1u << LODE_STAGE_SUPERWEIGHT,
                   scores = classify | 1u << LODE_STAGE_MOMENTS,
                   compensate = scores | 1u << LODE_STAGE_PRUNE | 1u << LODE_STAGE_COMPENSATE;
    switch (stage) {
    case LODE_STAGE_TOKENIZER:
        return 0;
    case LODE_STAGE_TOKENIZE:
        return 1u << LODE_STAGE_TOKENIZER;
    case LODE_STAGE_TRAIN:
        return tokenize;
    case LODE_STAGE_CALIBRATE:
    case LODE_STAGE_ACCUMULATE:
    case LODE_STAGE_MOMENTS:
        return tokenize;
    case LODE_STAGE_CLASSIFY:
        return statistics;
    case LODE_STAGE_SUPERWEIGHT:
        return classify;
    case LODE_STAGE_SPECTRA:
    case LODE_STAGE_PRUNE:
    case LODE_STAGE_PROBE:
        return scores;
    case LODE_STAGE_COMPENSATE:
        return compensate;
    case LODE_STAGE_QUANTIZE:
        return compensate | superweight;
    case LODE_STAGE_AUDIT:
        return superweight;
    case LODE_STAGE_EVALUATE:
    case LODE_STAGE_EXPORT:
    case LODE_STAGE_COUNT:
        break;
    }
    return compensate | superweight | 1u << LODE_STAGE_QUANTIZE;
}

/* Digest of all keys that decide a stage's file, of those before it too; of a checkpoint also of
 * those that decide what it was trained to. */
static lode_status_t stage_key(char digest[LODE_DIGEST_TEXT], const lode_config_t *config,
                               lode_stage_t stage, bool checkpoint) {
    const unsigned wanted =
        before(stage) | (checkpoint ? before(LODE_STAGE_TRAIN) | 1u << LODE_STAGE_TRAIN : 0);
    lode_hash_t *hash;
    LODE_TRY(lode_hash_create(&hash));
    lode_status_t status = LODE_OK;
    for (int s = 0; s < LODE_STAGE_COUNT && status == LODE_OK; s++)
        if (s == (int)stage || wanted & 1u << s)
            status = lode_config_stage_hash(config, lode_stage_name((lode_stage_t)s), hash);
    lode_hash_text(hash, digest);
    lode_hash_destroy(&hash);
    return status;
}

/* Whether an earlier point has the same file of the stage. */
static lode_status_t is_shared(bool *shared, const lode_config_point_t *points, int64_t point,
                               lode_stage_t stage, bool checkpoint) {
    char own[LODE_DIGEST_TEXT], other[LODE_DIGEST_TEXT];
    *shared = false;
    LODE_TRY(stage_key(own, points[point].config, stage, checkpoint));
    for (int64_t p = 0; p < point && !*shared; p++) {
        LODE_TRY(stage_key(other, points[p].config, stage, checkpoint));
        *shared = strcmp(own, other) == 0;
    }
    return LODE_OK;
}

/* --- one model ------------------------------------------------------------------------------- */

/* What is planned: a model of the experiment, one checkpoint of it, or all of its checkpoints by
 * the first of them, since they take the same. */
typedef struct subject {
    int64_t model;      /* of the experiment */
    int64_t checkpoint; /* −1: the model itself */
    bool all;           /* from that checkpoint on */
} subject_t;

/* The subject at a point; NULL where it has no such model or checkpoint. */
static const lode_config_model_t *entry_of(const subject_t *subject, const lode_config_t *config) {
    const int64_t steps = lode_config_checkpoint_total(config);
    if (subject->model >= config->model_count || subject->checkpoint >= steps)
        return NULL;
    return subject->checkpoint < 0 ? &config->models[subject->model]
                                   : &config->trained[subject->model * steps + subject->checkpoint];
}

static int64_t copies_of(const subject_t *subject, const lode_config_t *config) {
    return subject->all ? lode_config_checkpoint_total(config) - subject->checkpoint : 1;
}

typedef struct plan {
    const lode_plan_request_t *request;
    const lode_config_point_t *points;
    int64_t point_count;
    bool standard;
    int64_t node_memory;
    lode_machine_t machine;
    const char *measured; /* the model that it was measured for, NULL: not yet, "": any */
    json_t *list;         /* NULL: tables are printed */
} plan_t;

static lode_status_t know_machine(plan_t *plan, const lode_config_t *config,
                                  const lode_config_model_t *entry) {
    lode_forecast_model_t model;
    const char *source = lode_forecast_source(config, entry);
    const char *wanted = plan->request->machine ? "" : source;
    if (plan->measured && strcmp(plan->measured, wanted) == 0 &&
        plan->machine.threads == config->threads)
        return LODE_OK;
    plan->measured = wanted;
    if (plan->request->machine)
        return lode_machine_read(&plan->machine, plan->request->machine, config->threads);
    LODE_TRY(lode_forecast_model(&model, source));
    return lode_machine_measure(&plan->machine, &model.architecture, model.dtype,
                                config->micro_batch, config->calibration.max_length,
                                config->threads);
}

/* Adds a point to the sweep: what no earlier point has. */
static lode_status_t add_point(lode_plan_sweep_t *sweep, const plan_t *plan,
                               const lode_forecast_t *forecast, int64_t point) {
    const bool checkpoint = lode_config_trained_from(forecast->config, forecast->entry) != NULL;
    const int64_t copies = forecast->copies;
    for (int s = 0; s < LODE_STAGE_COUNT; s++) {
        bool shared;
        if (!forecast->stage[s].wanted)
            continue;
        LODE_TRY(is_shared(&shared, plan->points, point, (lode_stage_t)s, checkpoint));
        if (shared)
            continue;
        sweep->runs[s] += copies;
        sweep->seconds += (double)copies * forecast->stage[s].seconds;
        sweep->disk += copies * forecast->stage[s].file;
    }
    sweep->disk += copies * forecast->exports + forecast->checkpoints;
    return LODE_OK;
}

static lode_status_t sum_points(lode_plan_sweep_t *sweep, plan_t *plan, const subject_t *subject,
                                const lode_forecast_t *first) {
    *sweep = (lode_plan_sweep_t){.points = plan->point_count,
                                 .seconds = (double)first->copies * first->reading};
    LODE_TRY(add_point(sweep, plan, first, 0));
    for (int64_t p = 1; p < plan->point_count; p++) {
        const lode_config_t *config = plan->points[p].config;
        const lode_config_model_t *entry = entry_of(subject, config);
        lode_forecast_t forecast;
        if (!entry)
            continue;
        lode_status_t status =
            lode_forecast_make(&forecast, config, entry, plan->points[p].label, &plan->machine,
                               plan->request->ranks, plan->standard);
        forecast.copies = copies_of(subject, config);
        if (status == LODE_OK)
            status = add_point(sweep, plan, &forecast, p);
        else
            status = lode_fail_context(status, "point %s of the sweep", plan->points[p].label);
        lode_forecast_free(&forecast);
        LODE_TRY(status);
    }
    return LODE_OK;
}

static lode_status_t show(plan_t *plan, const lode_forecast_t *forecast,
                          const lode_plan_advice_t *advice, const lode_plan_sweep_t *sweep) {
    if (plan->list) {
        json_t *object = lode_plan_json(forecast, advice, sweep);
        if (!object || json_array_append_new(plan->list, object) != 0)
            return lode_fail(LODE_ERR_MEMORY, "no memory for the plan as JSON");
        return LODE_OK;
    }
    lode_buffer_t text = {0};
    const lode_status_t status = lode_plan_table(&text, forecast, advice, sweep);
    if (status == LODE_OK)
        fputs(text.data, stdout);
    lode_buffer_free(&text);
    return status;
}

static lode_status_t plan_subject(plan_t *plan, const subject_t *subject) {
    const lode_config_t *config = plan->points[0].config;
    const lode_config_model_t *entry = entry_of(subject, config);
    lode_forecast_t forecast = {0};
    lode_plan_advice_t advice = {0};
    lode_plan_sweep_t sweep;
    lode_status_t status = know_machine(plan, config, entry);
    if (status == LODE_OK)
        status = lode_forecast_make(&forecast, config, entry, plan->points[0].label, &plan->machine,
                                    plan->request->ranks, plan->standard);
    forecast.copies = copies_of(subject, config);
    if (status == LODE_OK && !forecast.scratch)
        status =
            lode_statistics_check_padding(config, entry->name, forecast.model.architecture.eos);
    if (status == LODE_OK)
        status = lode_config_check_bos(config, forecast.model.architecture.bos, entry->name);
    if (status == LODE_OK)
        status =
            lode_plan_advise(&advice, &forecast, plan->node_memory, plan->request->ranks_per_node);
    if (status == LODE_OK)
        status = sum_points(&sweep, plan, subject, &forecast);
    if (status == LODE_OK)
        status = show(plan, &forecast, &advice, &sweep);
    lode_plan_advice_free(&advice);
    lode_forecast_free(&forecast);
    return status;
}

/* --- all of them ----------------------------------------------------------------------------- */

/* Plans the subject where it is asked for, after a blank line where something was planned before.
 */
static lode_status_t plan_if(plan_t *plan, const subject_t *subject, bool wanted,
                             int64_t *planned) {
    if (!wanted)
        return LODE_OK;
    if ((*planned)++ > 0 && !plan->list)
        putchar('\n');
    return plan_subject(plan, subject);
}

/* A model and its checkpoints; where one of these is asked for by name, that one. */
static lode_status_t plan_model(plan_t *plan, int64_t model, int64_t *planned) {
    const lode_config_t *config = plan->points[0].config;
    const char *only = plan->request->model;
    const int64_t steps = config->trained_count / config->model_count;
    const bool whole = lode_config_selects(config, only, &config->models[model]);
    const subject_t itself = {.model = model, .checkpoint = -1};
    LODE_TRY(plan_if(plan, &itself, whole, planned));
    if (whole) {
        const subject_t all = {.model = model, .all = true};
        return plan_if(plan, &all, steps > 0, planned);
    }
    for (int64_t i = 0; i < steps; i++) {
        const subject_t one = {.model = model, .checkpoint = i};
        LODE_TRY(plan_if(plan, &one, strcmp(only, entry_of(&one, config)->name) == 0, planned));
    }
    return LODE_OK;
}

static lode_status_t plan_models(plan_t *plan) {
    const lode_config_t *config = plan->points[0].config;
    int64_t planned = 0;
    for (int64_t m = 0; m < config->model_count; m++)
        LODE_TRY(plan_model(plan, m, &planned));
    if (planned > 0)
        return LODE_OK;
    return lode_fail(LODE_ERR_USAGE,
                     "--model %s: the experiment has no model of that name; the first is \"%s\"",
                     plan->request->model, config->models[0].name);
}

static lode_status_t print_points(plan_t *plan) {
    if (plan->request->json) {
        plan->list = json_array();
        if (!plan->list)
            return lode_fail(LODE_ERR_MEMORY, "no memory for the plan as JSON");
    }
    const lode_status_t status = plan_models(plan);
    if (status == LODE_OK && plan->list) {
        json_dumpf(plan->list, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    json_decref(plan->list);
    return status;
}

lode_status_t lode_plan_print(const lode_plan_request_t *request) {
    plan_t plan = {.request = request, .standard = is_model(request->path)};
    lode_config_t *config = NULL;
    lode_config_point_t *points = NULL;
    if ((request->node_memory != NULL) != (request->ranks_per_node > 0))
        return lode_fail(LODE_ERR_USAGE,
                         "--memory-per-node and --ranks-per-node go together; see lode --help");
    if (request->node_memory)
        LODE_TRY(parse_bytes(&plan.node_memory, request->node_memory));
    lode_status_t status =
        plan.standard
            ? load_standard(&config, request)
            : lode_config_load(&config, request->path, request->overrides, request->override_count);
    if (status == LODE_OK)
        status = lode_config_expand(config, &points, &plan.point_count);
    plan.points = points;
    if (status == LODE_OK)
        status = print_points(&plan);
    lode_config_points_destroy(&points, plan.point_count);
    lode_config_destroy(&config);
    return status;
}
