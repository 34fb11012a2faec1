#include "report/plot.h"

#include <errno.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "report/page.h"

extern char **environ;

lode_status_t lode_plot_begin(lode_buffer_t *script, int width, int height) {
    return lode_buffer_printf(
        script,
        "set terminal svg size %d,%d dynamic enhanced font 'Helvetica,13' linewidth 1 "
        "background '#ffffff'\n"
        "set encoding utf8\n"
        "set border 3 lc rgb '#8a8f98' lw 1\n"
        "set tics nomirror out scale 0.6 textcolor rgb '#3c4149'\n"
        "set grid lc rgb '#e6e8eb' lw 0.7 lt 1\n"
        "set key textcolor rgb '#3c4149' samplen 1.6 spacing 1.15 noenhanced\n"
        "set xlabel textcolor rgb '#3c4149'\n"
        "set ylabel textcolor rgb '#3c4149'\n"
        "set title textcolor rgb '#3c4149' noenhanced\n",
        width, height);
}

lode_status_t lode_plot_text(lode_buffer_t *script, const char *text) {
    LODE_TRY(lode_buffer_append(script, "'", 1));
    for (; *text; text++) {
        bool plain = (unsigned char)*text >= ' ' && *text != '\'' && *text != '\\' &&
                     *text != '`' && *text != 127;
        LODE_TRY(lode_buffer_append(script, plain ? text : "?", 1));
    }
    return lode_buffer_append(script, "'", 1);
}

lode_status_t lode_plot_log_tics(lode_buffer_t *script, char axis, double low, double high) {
    static const double fine[] = {1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 0}, medium[] = {1, 2, 5, 0},
                        coarse[] = {1, 0};
    double decades = log10(high / low);
    const double *mantissas = decades < 0.95 ? fine : decades < 2.7 ? medium : coarse;
    if (low < 1e-3 || high > 1e5) /* powers of ten, which need no mantissa */
        mantissas = coarse;
    int step = decades > 8 ? (int)ceil(decades / 8) : 1;
    int first = (int)floor(log10(low)), last = (int)ceil(log10(high));
    const char *comma = "";
    LODE_TRY(lode_buffer_printf(script, "set %ctics (", axis));
    for (int decade = first; decade <= last; decade++) {
        if (decade % step != 0)
            continue;
        for (const double *mantissa = mantissas; *mantissa > 0; mantissa++) {
            double tic = *mantissa * pow(10, decade);
            if (tic < low * 0.999 || tic > high * 1.001)
                continue;
            if (low < 1e-3 || high > 1e5)
                LODE_TRY(lode_buffer_printf(script, "%s'10^{%d}' %.9g", comma, decade, tic));
            else
                LODE_TRY(lode_buffer_printf(script, "%s'%g' %.9g", comma, tic, tic));
            comma = ", ";
        }
    }
    return lode_buffer_printf(script, ")\n");
}

lode_status_t lode_plot_power_tics(lode_buffer_t *script, char axis, double low, double high,
                                   int most) {
    const double first = log10(low) - 0.2, last = log10(high) + 0.2;
    const int step = (int)fmax(1, ceil((last - first) / most));
    const char *comma = "";
    if (step <= 3)
        return lode_buffer_printf(script, "set %ctics 1e%d\nset format %c '10^{%%T}'\n", axis, step,
                                  axis);
    LODE_TRY(lode_buffer_printf(script, "set %ctics (", axis));
    for (int decade = (int)ceil(first / step) * step; decade <= last; decade += step) {
        LODE_TRY(lode_buffer_printf(script, "%s'10^{%d}' 1e%d", comma, decade, decade));
        comma = ", ";
    }
    return lode_buffer_printf(script, ")\n");
}

/* --- the child process ------------------------------------------------------------------ */

/* Starts gnuplot on files that are already complete or empty, so that no pipe can fill up. Returns
 * its exit status, or −1 with errno where it could not be started. */
static int run_gnuplot(FILE *script, FILE *output, FILE *messages) {
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0)
        return -1;
    posix_spawn_file_actions_adddup2(&actions, fileno(script), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, fileno(output), STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, fileno(messages), STDERR_FILENO);
    char program[] = "gnuplot", settings[] = "--default-settings", input[] = "-";
    char *arguments[] = {program, settings, input, NULL};
    pid_t child;
    int error = posix_spawnp(&child, program, &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error) {
        errno = error;
        return -1;
    }
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static lode_status_t read_back(FILE *file, lode_buffer_t *out) {
    char block[65536];
    size_t got;
    rewind(file);
    while ((got = fread(block, 1, sizeof block, file)) > 0)
        LODE_TRY(lode_buffer_append(out, block, got));
    if (ferror(file))
        return lode_fail(LODE_ERR_IO, "a temporary file with a figure cannot be read");
    return lode_buffer_append(out, "", 0);
}

static void note_failure(lode_plot_t *plot, int result, const char *said) {
    if (result == -1 || result == 127) {
        plot->missing = true;
        snprintf(plot->reason, sizeof plot->reason, "gnuplot is not installed");
        lode_log_warning("gnuplot cannot be started (%s); the report has tables but no figures",
                         result == -1 ? strerror(errno) : "not found");
        return;
    }
    said += strspn(said, " \n");
    snprintf(plot->reason, sizeof plot->reason, "gnuplot failed: %.*s",
             (int)(strcspn(said, "\n") < 160 ? strcspn(said, "\n") : 160), said);
    lode_log_warning("a figure of the report cannot be drawn: %s", plot->reason);
}

/* --- making the figure fit into a page -------------------------------------------------- */

/* Where an identifier or a reference to one begins, just before the identifier. */
static size_t identifier_at(const char *text) {
    static const char *const marks[] = {"id=\"", "id='", "href=\"#", "href='#", "url(#", "url('#"};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (strncmp(text, marks[i], strlen(marks[i])) == 0)
            return strlen(marks[i]);
    return 0;
}

/* Copies the <svg> element. Several figures share a page, so identifiers get the figure's number;
 * gnuplot's own title, which browsers show as a tooltip, becomes the figure's. */
static lode_status_t adopt(const char *svg, int number, const char *title, lode_buffer_t *out) {
    const char *cursor = strstr(svg, "<svg"), *end = strstr(svg, "</svg>");
    if (!cursor || !end)
        return LODE_OK;
    while (cursor < end) {
        size_t mark = identifier_at(cursor);
        if (mark > 0) {
            LODE_TRY(lode_buffer_append(out, cursor, mark));
            LODE_TRY(lode_buffer_printf(out, "f%d-", number));
            cursor += mark;
        } else if (strncmp(cursor, "<title>Gnuplot</title>", 22) == 0) {
            LODE_TRY(lode_buffer_printf(out, "<title>"));
            LODE_TRY(lode_page_text(out, title));
            LODE_TRY(lode_buffer_printf(out, "</title>"));
            cursor += 22;
        } else if (strncmp(cursor, "<desc>", 6) == 0 && strstr(cursor, "</desc>")) {
            cursor = strstr(cursor, "</desc>") + 7;
        } else {
            LODE_TRY(lode_buffer_append(out, cursor++, 1));
        }
    }
    return lode_buffer_printf(out, "</svg>\n");
}

lode_status_t lode_plot_draw(lode_plot_t *plot, const lode_buffer_t *script, const char *title,
                             lode_buffer_t *svg, bool *drawn) {
    *drawn = false;
    if (plot->missing)
        return LODE_OK;
    FILE *input = tmpfile(), *output = tmpfile(), *messages = tmpfile();
    lode_buffer_t text = {0}, said = {0};
    lode_status_t status = LODE_OK;
    if (!input || !output || !messages ||
        fwrite(script->data, 1, script->length, input) != script->length || fflush(input) != 0)
        status = lode_fail(LODE_ERR_IO, "no temporary file for a figure: %s; check TMPDIR",
                           strerror(errno));
    if (status == LODE_OK) {
        rewind(input);
        int result = run_gnuplot(input, output, messages);
        int error = errno;
        status = read_back(output, &text);
        if (status == LODE_OK)
            status = read_back(messages, &said);
        errno = error;
        if (status == LODE_OK && (result != 0 || !strstr(text.data, "</svg>")))
            note_failure(plot, result, said.data);
        else if (status == LODE_OK) {
            *drawn = true;
            status = adopt(text.data, ++plot->figures, title, svg);
        }
    }
    lode_buffer_free(&said);
    lode_buffer_free(&text);
    FILE *files[] = {input, output, messages};
    for (int i = 0; i < 3; i++)
        if (files[i])
            fclose(files[i]);
    return status;
}
