/* report/figures: the figures of a case, appended as HTML to its topics. Each draws what its stage
 * file holds, and nothing where there is none. Local.
 *
 * Errors: LODE_ERR_SHAPE and LODE_ERR_FORMAT name a dataset that cannot be understood; LODE_ERR_IO,
 * LODE_ERR_MEMORY.
 */
#ifndef LODE_REPORT_FIGURES_H
#define LODE_REPORT_FIGURES_H

#include "report/chart.h"
#include "report/heatmap.h"
#include "report/plot.h"
#include "report/result.h"

/* Core mass, LP curves, LP against activation power: SUPERNODES. Needs item->layers. */
LODE_MUST_USE lode_status_t lode_figures_supernodes(lode_plot_t *plot, lode_report_case_t *item,
                                                    const lode_report_channels_t *channels);

/* classify.h5 /structure: concentration, stability, correlations and overlaps by depth:
 * SUPERNODES. */
LODE_MUST_USE lode_status_t lode_figures_structure(lode_plot_t *plot, lode_report_case_t *item);

/* Connectivity of core, halo and rest: HALO. Needs item->layers. */
LODE_MUST_USE lode_status_t lode_figures_connectivity(lode_plot_t *plot, lode_report_case_t *item,
                                                      const lode_report_channels_t *channels);

/* classify.h5 /controls: redundancy against controls, written dimensions, the read halo: HALO. */
LODE_MUST_USE lode_status_t lode_figures_halo(lode_plot_t *plot, lode_report_case_t *item,
                                              const lode_report_channels_t *channels);

/* classify.h5 /entropy: how evenly channels write, by depth, by class and against LP: ENTROPY.
 * Needs item->layers. */
LODE_MUST_USE lode_status_t lode_figures_entropy(lode_plot_t *plot, lode_report_case_t *item,
                                                 const lode_report_channels_t *channels);

/* spectra.h5: SPECTRA. */
LODE_MUST_USE lode_status_t lode_figures_spectra(lode_plot_t *plot, lode_report_case_t *item);

/* probe.h5: CHECKS. */
LODE_MUST_USE lode_status_t lode_figures_checks(lode_plot_t *plot, lode_report_case_t *item);

/* Every metric of every dataset against sparsity, never two datasets or protocols in one figure:
 * PRUNING. */
LODE_MUST_USE lode_status_t lode_figures_curves(lode_plot_t *plot, lode_report_case_t *item);

/* prune.h5: overlap of what the methods rank highest, and of what they keep: PRUNING. */
LODE_MUST_USE lode_status_t lode_figures_masks(lode_report_case_t *item,
                                               const lode_report_channels_t *channels);

/* Perplexity against bits, a table of the quantized variants of the dense model, and what mixed
 * precision gives to channels: QUANTIZATION. */
LODE_MUST_USE lode_status_t lode_figures_quantization(lode_plot_t *plot, lode_report_case_t *item);

/* Every perplexity against the bytes of all variants whose size quantize.h5 says, and those that
 * none of the same size or smaller betters: JOINT. */
LODE_MUST_USE lode_status_t lode_figures_joint(lode_plot_t *plot, lode_report_case_t *item);

/* superweight.h5, and the experiments in evaluate.h5: SUPER_WEIGHTS. */
LODE_MUST_USE lode_status_t lode_figures_super_weights(lode_plot_t *plot, lode_report_case_t *item);

/* audit.h5: RETENTION, and the rows of audit.csv. */
LODE_MUST_USE lode_status_t lode_figures_retention(lode_plot_t *plot, lode_report_case_t *item);

/* Draws a script and wraps it as a figure with caption; where it cannot be drawn, says why. */
LODE_MUST_USE lode_status_t lode_figure_add(lode_plot_t *plot, const lode_buffer_t *script,
                                            const char *title, const char *caption,
                                            lode_buffer_t *page);

/* The same of a chart and of a heat map; the title of the latter is map->title. */
LODE_MUST_USE lode_status_t lode_figure_chart(lode_plot_t *plot, const lode_chart_t *chart,
                                              const char *title, const char *caption,
                                              lode_buffer_t *page);
LODE_MUST_USE lode_status_t lode_figure_heatmap(const lode_heatmap_t *map, const char *caption,
                                                lode_buffer_t *page);

#endif
