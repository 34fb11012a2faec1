#include "base/size.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The factor of a size's suffix, 0 where it is none. */
static double size_factor(const char *suffix) {
    static const char letters[] = "KMGT";
    while (*suffix == ' ')
        suffix++;
    if (*suffix == '\0' || strcmp(suffix, "B") == 0)
        return 1;
    const char *letter = strchr(letters, *suffix);
    const char *rest = suffix + 1;
    if (!letter || (*rest && strcmp(rest, "B") != 0 && strcmp(rest, "iB") != 0))
        return 0;
    return ldexp(1, 10 * (int)(letter - letters + 1));
}

bool lode_size_parse(int64_t *bytes, const char *text) {
    const size_t digits = strspn(text, "0123456789.");
    char *end;
    const double number = strtod(text, &end), size = number * size_factor(text + digits);
    if (digits == 0 || end != text + digits || !(size > 0) || size >= 0x1p63)
        return false;
    *bytes = (int64_t)size;
    return true;
}

const char *lode_size_text(char text[LODE_SIZE_TEXT], double bytes) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    int unit = 0;
    for (; unit < 4 && bytes >= 1000; unit++)
        bytes /= 1000;
    const int decimals = bytes >= 100 ? 1 : 2;
    snprintf(text, LODE_SIZE_TEXT, "%.*f %s", unit == 0 ? 0 : decimals, bytes, units[unit]);
    return text;
}
