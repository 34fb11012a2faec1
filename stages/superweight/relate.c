#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "model/json_text.h"
#include "superweight/work.h"

/* --- the loss proxy -------------------------------------------------------------------------- */

static bool contains(const int32_t *channels, int64_t count, int32_t channel) {
    for (int64_t i = 0; i < count; i++)
        if (channels[i] == channel)
            return true;
    return false;
}

/* Whether the channel is in a set of classify.h5, "/core" or "/halo" [L, width]. */
static lode_status_t is_member(uint8_t *member, lode_store_t *classify, const char *set,
                               const lode_superweight_t *found) {
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES];
    int32_t *channels;
    LODE_TRY(lode_store_shape(classify, set, &axes, shape));
    const int64_t offset[] = {found->layer, 0}, count[] = {1, shape[1]};
    LODE_TRY(LODE_NEW(&channels, shape[1], "channels of a set"));
    const lode_status_t status =
        lode_store_read(classify, set, offset, count, LODE_TYPE_I32, channels);
    if (status == LODE_OK)
        *member = contains(channels, shape[1], found->channel);
    free(channels);
    return status;
}

static lode_status_t relate_channel(const lode_superweight_work_t *work, double *loss_proxy,
                                    const lode_superweight_t *found,
                                    lode_superweight_relation_t *relation) {
    const int64_t offset[] = {found->layer, 0}, count[] = {1, work->m};
    const int32_t k = found->channel;
    double sum = 0;
    LODE_TRY(
        lode_store_read(work->accumulate, "/loss_proxy", offset, count, LODE_TYPE_F64, loss_proxy));
    relation->loss_proxy_rank = 0;
    for (int64_t j = 0; j < work->m; j++) {
        sum += loss_proxy[j];
        relation->loss_proxy_rank +=
            loss_proxy[j] > loss_proxy[k] || (j < k && loss_proxy[j] == loss_proxy[k]);
    }
    relation->loss_proxy_share = sum > 0 ? loss_proxy[k] / sum : NAN;
    LODE_TRY(is_member(&relation->core, work->classify, "/core", found));
    return is_member(&relation->halo, work->classify, "/halo", found);
}

/* --- published ones -------------------------------------------------------------------------- */

static lode_status_t wrong_list(const lode_superweight_work_t *work, const char *what) {
    return lode_fail(LODE_ERR_FORMAT,
                     "%s: %s; superweight.known is a list like {\"models\": [{\"name\": \"%s\", "
                     "\"source\": \"…\", \"weights\": [{\"layer\": 2, \"row\": 3968, \"channel\": "
                     "7003}]}]}",
                     work->run->config->superweight.known, what, work->run->model->name);
}

static lode_status_t coordinate(const lode_superweight_work_t *work, const json_t *weight,
                                const char *name, int32_t *out) {
    const json_t *value = json_object_get(weight, name);
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > INT32_MAX)
        return wrong_list(work, "a weight has no layer, row and channel counted from 0");
    *out = (int32_t)json_integer_value(value);
    return LODE_OK;
}

static lode_status_t take_model(lode_superweight_work_t *work, const json_t *model) {
    lode_superweight_known_t *known = &work->known;
    const json_t *weights = json_object_get(model, "weights");
    const json_t *source = json_object_get(model, "source");
    if (!json_is_array(weights) || (source && !json_is_string(source)))
        return wrong_list(work,
                          "a model has no array \"weights\", or a \"source\" that is no text");
    const int64_t count = (int64_t)json_array_size(weights);
    known->listed = true;
    LODE_TRY(lode_strdup(&known->source, source ? json_string_value(source) : ""));
    LODE_TRY(LODE_NEW(&known->layer, count, "published super weights"));
    LODE_TRY(LODE_NEW(&known->row, count, "published super weights"));
    LODE_TRY(LODE_NEW(&known->channel, count, "published super weights"));
    LODE_TRY(LODE_NEW(&known->found, count, "published super weights"));
    for (; known->count < count; known->count++) {
        const int64_t i = known->count;
        const json_t *weight = json_array_get(weights, (size_t)i);
        LODE_TRY(coordinate(work, weight, "layer", &known->layer[i]));
        LODE_TRY(coordinate(work, weight, "row", &known->row[i]));
        LODE_TRY(coordinate(work, weight, "channel", &known->channel[i]));
    }
    return LODE_OK;
}

/* Reads all entries of the list, so that all are sound, and keeps the first whose name is `wanted`,
 * in any case of letters. */
static lode_status_t read_models(lode_superweight_work_t *work, const json_t *root,
                                 const char *wanted) {
    const json_t *models = json_object_get(root, "models");
    size_t index;
    json_t *model;
    bool kept = false;
    if (!json_is_array(models))
        return wrong_list(work, "it has no array \"models\"");
    json_array_foreach(models, index, model) {
        const json_t *name = json_object_get(model, "name");
        if (!json_is_string(name))
            return wrong_list(work, "a model has no text \"name\"");
        lode_superweight_known_t before = work->known;
        work->known = (lode_superweight_known_t){0};
        const lode_status_t status = take_model(work, model);
        if (status == LODE_OK && !kept && strcasecmp(json_string_value(name), wanted) == 0) {
            kept = true;
        } else {
            lode_superweight_known_free(&work->known);
            work->known = before;
        }
        LODE_TRY(status);
    }
    return LODE_OK;
}

static lode_status_t read_known(lode_superweight_work_t *work, const json_t *root) {
    LODE_TRY(read_models(work, root, work->run->model->name));
    if (!work->known.listed)
        lode_log_warning("%s lists no model %s; nothing is compared",
                         work->run->config->superweight.known, work->run->model->name);
    return LODE_OK;
}

/* Compares both ways and tells what is missing. */
static void compare_known(lode_superweight_work_t *work) {
    lode_superweight_known_t *known = &work->known;
    int64_t found = 0, more = work->list.count;
    for (int64_t i = 0; i < work->list.count; i++)
        for (int64_t k = 0; k < known->count; k++)
            if (known->layer[k] == work->list.found[i].layer &&
                known->row[k] == work->list.found[i].row &&
                known->channel[k] == work->list.found[i].channel)
                known->found[k] = work->relation[i].known = 1;
    for (int64_t i = 0; i < work->list.count; i++)
        more -= work->relation[i].known;
    for (int64_t k = 0; k < known->count; k++) {
        found += known->found[k];
        const bool inside =
            known->layer[k] < work->L && known->row[k] < work->d && known->channel[k] < work->m;
        if (!known->found[k])
            lode_log_warning("superweight: published for %s, but not found: layer %d [%d, %d]%s",
                             work->run->model->name, (int)known->layer[k], (int)known->row[k],
                             (int)known->channel[k],
                             inside ? "" : ", which this model does not even have");
    }
    if (known->listed)
        lode_log_info("superweight: %lld of %lld published super weights found, %lld others",
                      (long long)found, (long long)known->count, (long long)more);
}

lode_status_t lode_superweight_relate(lode_superweight_work_t *work) {
    const char *path = work->run->config->superweight.known;
    double *loss_proxy;
    LODE_TRY(LODE_NEW(&work->relation, work->list.count, "super weights"));
    LODE_TRY(LODE_NEW(&loss_proxy, work->m, "loss proxies"));
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < work->list.count && status == LODE_OK; i++)
        status = relate_channel(work, loss_proxy, &work->list.found[i], &work->relation[i]);
    free(loss_proxy);
    if (status != LODE_OK || !*path)
        return status;
    char *text;
    size_t size;
    json_t *root = NULL;
    LODE_TRY(lode_file_read(&text, &size, path));
    status = lode_json_text_object(&root, text, size, path);
    if (status == LODE_OK)
        status = read_known(work, root);
    json_decref(root);
    free(text);
    if (status == LODE_OK)
        compare_known(work);
    return status;
}

lode_status_t lode_superweight_known_check(const lode_config_t *config) {
    lode_run_t run = {.config = config, .model = lode_config_model_at(config, 0)};
    lode_superweight_work_t work = {.run = &run};
    const char *path = config->superweight.known;
    char *text;
    size_t size;
    json_t *root = NULL;
    if (!*path)
        return LODE_OK;
    LODE_TRY(lode_fail_context(lode_file_read(&text, &size, path), "%s: superweight.known",
                               lode_config_where(config, "superweight.known")));
    lode_status_t status = lode_json_text_object(&root, text, size, path);
    if (status == LODE_OK)
        status = read_models(&work, root, "");
    lode_superweight_known_free(&work.known);
    json_decref(root);
    free(text);
    return status;
}

void lode_superweight_known_free(lode_superweight_known_t *known) {
    free(known->source);
    free(known->layer);
    free(known->row);
    free(known->channel);
    free(known->found);
    *known = (lode_superweight_known_t){0};
}
