#include "lode/arguments.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/size.h"

static const struct {
    const char *spelling;
    bool value;
} known[LODE_OPTION_COUNT] = {
#define LODE_OPTION_ROW(name, spelling, value) [LODE_OPTION_##name] = {spelling, value},
    LODE_OPTION_LIST(LODE_OPTION_ROW)
#undef LODE_OPTION_ROW
};

/* Takes the option argv[*i]; moves on where a value follows. */
static lode_status_t take_option(lode_arguments_t *arguments, unsigned options, int argc,
                                 char **argv, int *i) {
    const char *option = argv[*i];
    for (int o = 0; o < LODE_OPTION_COUNT; o++) {
        if (!(options >> o & 1) || strcmp(option, known[o].spelling) != 0)
            continue;
        if (known[o].value && *i + 1 >= argc)
            return lode_fail(LODE_ERR_USAGE, "%s needs a value; see lode --help", option);
        arguments->value[o] = known[o].value ? argv[++*i] : "";
        if (o == LODE_OPTION_SET)
            arguments->overrides[arguments->override_count++] = arguments->value[o];
        return LODE_OK;
    }
    return lode_fail(LODE_ERR_USAGE, "lode %s has no option %s; see lode --help",
                     arguments->command, option);
}

lode_status_t lode_arguments_parse(lode_arguments_t *out, const char *command, unsigned options,
                                   int argc, char **argv, int first) {
    *out = (lode_arguments_t){.command = command};
    LODE_TRY(LODE_NEW(&out->operands, argc, "arguments"));
    LODE_TRY(LODE_NEW(&out->overrides, argc, "arguments"));
    for (int i = first; i < argc; i++) {
        if (argv[i][0] == '-' && argv[i][1] != '\0')
            LODE_TRY(take_option(out, options, argc, argv, &i));
        else
            out->operands[out->operand_count++] = argv[i];
    }
    return LODE_OK;
}

void lode_arguments_free(lode_arguments_t *arguments) {
    free(arguments->operands);
    free(arguments->overrides);
    *arguments = (lode_arguments_t){0};
}

lode_status_t lode_arguments_integer(int64_t *out, const lode_arguments_t *arguments,
                                     lode_option_t option, int64_t least, int64_t most,
                                     int64_t fallback) {
    const char *text = arguments->value[option];
    char *end;
    *out = fallback;
    if (!text)
        return LODE_OK;
    errno = 0;
    const long long number = strtoll(text, &end, 10);
    if (end == text || *end || errno || number < least || number > most)
        return lode_fail(LODE_ERR_USAGE, "%s %s: give a whole number from %lld to %lld",
                         known[option].spelling, text, (long long)least, (long long)most);
    *out = number;
    return LODE_OK;
}

lode_status_t lode_arguments_size(int64_t *out, const lode_arguments_t *arguments,
                                  lode_option_t option, int64_t fallback) {
    const char *text = arguments->value[option];
    *out = fallback;
    if (text && !lode_size_parse(out, text))
        return lode_fail(LODE_ERR_USAGE, "%s %s: give a size like 512M or 8G, or a number of bytes",
                         known[option].spelling, text);
    return LODE_OK;
}
