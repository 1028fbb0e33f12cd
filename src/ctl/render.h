/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon's replies as text for people. -EPROTO and a sentence: the reply lacks what the API promises. */
#pragma once

#include <jansson.h>

#include "base/err.h"

int ctl_render_sockets(json_t *root, FILE *out, struct err *err);
int ctl_render_conns(json_t *root, FILE *out, struct err *err);
int ctl_render_explain(json_t *root, FILE *out, struct err *err);
int ctl_render_programs(json_t *root, FILE *out, struct err *err);

/* What 'waggle status' has put together: /v1/status, with the services of /v1/services in it. */
int ctl_render_status(json_t *root, FILE *out, struct err *err);

/* What a reload has changed; and the findings of one that was refused, a line each. */
int ctl_render_reload(json_t *root, FILE *out, struct err *err);
void ctl_render_reload_errors(json_t *root, FILE *out);

/* One line for an event. */
int ctl_render_event(json_t *event, FILE *out, struct err *err);
