/* config/fields: the fields of an experiment, reached by the rows of the table.
 *
 * Internal to config/; everything here is Local.
 */
#ifndef LODE_CONFIG_FIELDS_H
#define LODE_CONFIG_FIELDS_H

#include "config/config.h"
#include "config/schema.h"

/* Bytes of one value of the type; of one element for lists of groups. */
size_t lode_field_size(const lode_key_t *key);

/* Where `base` (the experiment, or the element of a list of groups) keeps the key's value. */
void *lode_field(const lode_key_t *key, const void *base);

/* The array and the count of a key that is a list. */
void *lode_field_items(const lode_key_t *key, const void *base);
int64_t lode_field_count(const lode_key_t *key, const void *base);

/* Element `index` of the experiment's list of groups. */
void *lode_field_element(const lode_key_t *groups, const lode_config_t *config, int64_t index);

/* Appends the value as canonical libconfig text. Not for lists of groups. */
LODE_MUST_USE lode_status_t lode_field_text(const lode_key_t *key, const void *base,
                                            lode_buffer_t *text);

/* Appends the text of the key at an indexed path, which must exist in the experiment. */
LODE_MUST_USE lode_status_t lode_field_path_text(const lode_config_t *config, const char *path,
                                                 lode_buffer_t *text);

#endif
