/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the files that write the Prometheus text, and by nobody else. */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "daemon/metrics.h"

/* Above as many entries of a section of the configuration there are no series by entry. */
#define METRICS_ENTRIES_MAX 100

/* HELP and TYPE: before the samples of a family, which stand together. */
void metrics_family(FILE *f, const char *name, const char *type, const char *help);
void metrics_single(FILE *f, const char *name, const char *type, const char *help, double v);
/* The value of a label, in its quotes. */
void metrics_quoted(FILE *f, const char *text);
/* "PREFIX_WORD_total" */
void metrics_counter(FILE *f, const char *prefix, const char *word, const char *help, uint64_t v);

/* metrics_hooks.c: what the hooks tell, those of them that are on. */
void metrics_hooks_text(FILE *f, struct run *run);
