/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For fuzzers whose first byte chooses what the rest is given to. */
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/*
 * What follows the first of the bytes, of which there must be one, ended by a zero; the caller's to free. Not strndup(): it
 * is held to read up to a NUL by strict_string_checks, and the data has none.
 */
static inline char *fuzz_text(const uint8_t *data, size_t bytes)
{
	char *text = malloc(bytes);

	if (!text)
		abort();
	memcpy(text, data + 1, bytes - 1);
	text[bytes - 1] = '\0';
	return text;
}
