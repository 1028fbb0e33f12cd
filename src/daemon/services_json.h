/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <jansson.h>

#include "daemon/services.h"

/* The caller's; NULL: no memory. */
json_t *backend_json(const struct backend *b);
/* With its backends, which do not say again whose they are. */
json_t *service_json(const struct service *sv);
