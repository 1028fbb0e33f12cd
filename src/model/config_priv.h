/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a configuration is read: text -> tree of nodes (config_yaml.c) -> struct config, by tables of keys
 * (config_decode.c is the engine; config_service.c and config_hooks.c are the tables) -> checks of what only shows when
 * all is known (config_check.c). Whatever is found wrong is noted as a finding, and reading goes on.
 */
#pragma once

#include "model/addr.h"
#include "model/config.h"

#define CONFIG_BYTES_MAX (10U << 20) /* of one file */
#define CONFIG_NODES_MAX (2U << 20)  /* of one file */
#define CONFIG_DEPTH_MAX 32
#define CONFIG_ERRORS_MAX 1000 /* what comes after is only counted */
#define CONFIG_NAME_MAX 63

enum config_kind {
	CONFIG_SCALAR,
	CONFIG_LIST,
	CONFIG_MAP,
	CONFIG_BROKEN, /* a finding about it has been noted; decoders pass over it */
};

/* Children are a list; those of a map are key, value, key, value. */
struct config_node {
	enum config_kind kind;
	bool is_quoted;
	unsigned int line, column;
	const char *text; /* scalar; no NUL within */
	size_t n;	  /* children */
	struct config_node *first, *last, *next;
};

/* The tree of one file; file belongs to the struct config. */
struct config_doc {
	const char *file;
	struct config_node *root; /* NULL: an empty file */
	size_t n_nodes;
	struct config_chunk *chunks; /* where the nodes live */
	struct config_doc *next;
};

/* Nodes of what will be checked, index by index with the array in struct config. */
struct config_nodes {
	const struct config_node **v;
	size_t n;
};

struct config_decode {
	struct config *c;
	struct config_errors *errors;
	size_t n_hidden;	 /* findings beyond CONFIG_ERRORS_MAX */
	bool no_memory;		 /* sticky */
	bool is_partial;	 /* a part could not be read: what seems to be missing may be there */
	const char *file;	 /* whose nodes are at hand */
	struct config_doc *docs; /* newest first */
	struct config_nodes services, redirects, policies;
	const struct config_node *include, *accelerate, *metrics; /* of the first file */
	bool has_connect, has_packet;
};

struct config_key;
typedef void (*config_fn)(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			  void *slot);

enum config_key_flag {
	CONFIG_REQUIRED = 1 << 0,
};

/* One key of a map. Tables end with a NULL name. */
struct config_key {
	const char *name;
	config_fn fn;
	size_t offset;	     /* of the slot in the object */
	const char *example; /* what would be right */
	unsigned int flags;
	unsigned long long min, max; /* config_u32, config_ms */
	const char *const *words;    /* config_word; ends with NULL */
};

/* Findings. at NULL: no place in the file at hand but its beginning. */
void config_error(struct config_decode *d, const struct config_node *at, const char *fmt, ...) _printf_(3, 4);
/* node is of another file than the one at hand. */
void config_error_in(struct config_decode *d, const char *file, const struct config_node *node, const char *fmt, ...)
	_printf_(4, 5);
void config_error_at(struct config_decode *d, const struct config_pos *pos, const char *fmt, ...) _printf_(3, 4);
struct config_pos config_pos(const struct config_decode *d, const struct config_node *node);
/* What is shown of a value in a sentence: config_shown(text).text. */
struct config_shown {
	char text[84];
};
struct config_shown config_shown(const char *text);
/* "FILE:LINE:COLUMN" */
struct config_place {
	char text[320];
};
struct config_place config_place(const struct config_pos *pos);

/* Text to tree. -EINVAL: it is not YAML, which has been noted. *ret_doc is set also then; d owns it. */
int config_doc_parse(struct config_decode *d, const char *file, const char *text, size_t n,
		     struct config_doc **ret_doc);
void config_docs_done(struct config_decode *d);

/* The engine. what names the map in sentences ("a service"). */
void config_map(struct config_decode *d, const struct config_node *node, const struct config_key *keys,
		const char *what, void *object);
/* The value of a key in a map; NULL if there is none. */
const struct config_node *config_find(const struct config_node *map, const char *name);

/* Appends entries, zeroed, to an array, and returns the first of them. NULL: no memory, which has been noted. */
void *config_grow(struct config_decode *d, void **v, size_t *n, size_t add, size_t size);
bool config_note(struct config_decode *d, struct config_nodes *nodes, const struct config_node *node);

/* Whether the value is a list, or a finding has been noted. */
bool config_is_list(struct config_decode *d, const struct config_node *node, const struct config_key *key);
bool config_is_null(const struct config_node *node);
/* The text of a single value that is not empty; NULL: a finding has been noted. */
const char *config_text(struct config_decode *d, const struct config_node *node, const struct config_key *key);
void config_strdup(struct config_decode *d, const char *text, char **slot);
void config_wrong_word(struct config_decode *d, const struct config_node *node, const char *what, const char *word,
		       const char *const *words);

/* Parsers for tables: what the slot is. */
void config_bool(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot);
void config_u32(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot);
void config_ms(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot);
/* An enum, by the index of the word. */
void config_word(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot);
/* A char *: one to CONFIG_NAME_MAX letters, digits and . _ - */
void config_name(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot);
/* A char *: an absolute path, as short as it gets. */
void config_path(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot);
/* Lists; a single value is a list of one, an empty list is refused. */
void config_paths(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot);
void config_cidrs(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot);
void config_ports(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot);

/* "198.18.0.5:80"; config_endpoint() refuses what a connection cannot go to. False: a finding has been noted. */
bool config_endpoint_any(struct config_decode *d, const struct config_node *node, const struct config_key *key,
			 struct lb_addr *ret_addr, uint16_t *ret_port);
bool config_endpoint(struct config_decode *d, const struct config_node *node, const struct config_key *key,
		     struct lb_addr *ret_addr, uint16_t *ret_port);
bool config_name_is_valid(const char *text);
/* A name that does not look like the beginning of a network. */
bool config_is_identity(const char *text);
/* fn for each entry of a list, or for the single value; an empty list is refused. */
void config_each(struct config_decode *d, const struct config_node *node, const struct config_key *key,
		 void (*fn)(struct config_decode *d, const struct config_node *entry, const struct config_key *key,
			    void *data),
		 void *data);

/* The tables. */
void config_decode_root(struct config_decode *d, const struct config_node *root, bool is_included);
void config_services(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot);

/* Cross checks, after every file was decoded. */
void config_check(struct config_decode *d);
void config_check_hooks(struct config_decode *d);

/* Tells of each of n items that equals an earlier one. */
struct config_dup {
	const void *items;
	int (*compare)(const void *items, size_t a, size_t b);
	void (*report)(struct config_decode *d, const void *items, size_t first, size_t again);
};
void config_duplicates(struct config_decode *d, size_t n, const struct config_dup *dup);

extern const char *const config_cookies_words[];   /* enum config_syn_cookies; ends with NULL */
extern const char *const config_check_words[];	   /* enum config_check; ends with NULL */
extern const char *const config_interface_words[]; /* enum config_packet_hook; ends with NULL */

/* "2s"; the largest unit that divides it. */
struct config_duration {
	char text[24];
};
struct config_duration config_duration(unsigned int ms);
