/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The status page, beside /metrics on the same server: its files, which are in the binary, and the data that it shows,
 * which are those of the control API that can only be read and are cheap. Whoever reaches the address can read them;
 * nothing can be changed here.
 */
#pragma once

#include <microhttpd.h>

#include "base/err.h"

struct page;
struct run;

/* A file of src/daemon/page, made part of the binary by tools/embed. */
struct page_file {
	const char *path, *type, *etag;
	const unsigned char *data;
	size_t n;
};
extern const struct page_file page_files[];
extern const size_t n_page_files;

/* loopback: the server is for this machine alone. */
int page_new(struct run *run, bool loopback, struct page **ret, struct err *err);
struct page *page_free(struct page *p);

/* Answers GET and HEAD of any path but /metrics. */
enum MHD_Result page_get(struct page *p, struct MHD_Connection *conn, const char *url);
