// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * YAML to a tree. libyaml's events are used, not its documents: a document no longer shows anchors and resolves
 * aliases, and both are refused here (a service list has no use for them, and a few lines of them make gigabytes).
 */
#include "model/config_priv.h"

#include <errno.h>
#include <yaml.h>

#define CHUNK_BYTES (64U << 10)

struct config_chunk {
	struct config_chunk *next;
	size_t used, size;
	_Alignas(struct config_node) char bytes[];
};

struct parse {
	struct config_decode *d;
	struct config_doc *doc;
	struct config_node *open[CONFIG_DEPTH_MAX];
	size_t depth;
	size_t n_documents;
};

static void *chunk_alloc(struct config_doc *doc, size_t n)
{
	struct config_chunk *c = doc->chunks;
	void *ret;

	n = (n + _Alignof(struct config_node) - 1) & ~(_Alignof(struct config_node) - 1);
	if (!c || c->size - c->used < n) {
		size_t size = n > CHUNK_BYTES ? n : CHUNK_BYTES;

		c = malloc(sizeof(*c) + size);
		if (!c)
			return NULL;
		*c = (struct config_chunk){ .next = doc->chunks, .size = size };
		doc->chunks = c;
	}
	ret = c->bytes + c->used;
	c->used += n;
	return ret;
}

static void doc_free(struct config_doc *doc)
{
	while (doc->chunks) {
		struct config_chunk *c = doc->chunks;

		doc->chunks = c->next;
		free(c);
	}
	free(doc);
}

void config_docs_done(struct config_decode *d)
{
	while (d->docs) {
		struct config_doc *doc = d->docs;

		d->docs = doc->next;
		doc_free(doc);
	}
}

/* What libyaml says, and what would be right. */
static const struct {
	const char *problem, *remedy;
} remedies[] = {
	{ "found character that cannot start any token",
	  "indent with spaces, not tabs, and put values that begin with @, ` or % in quotes" },
	{ "found a tab character that violates indentation", "indent with spaces" },
	{ "mapping values are not allowed in this context",
	  "put each KEY: VALUE on a line of its own, indented as its neighbours" },
	{ "did not find expected key", "indent this line as its neighbours, and close what was opened before" },
	{ "did not find expected '-' indicator", "begin each entry of the list with a dash, all indented alike" },
	{ "did not find expected ',' or ']'", "separate the entries by commas, and close the list by ]" },
	{ "did not find expected ',' or '}'", "separate the keys by commas, and close the map by }" },
	{ "could not find expected ':'", "write KEY: VALUE" },
	{ "found unexpected end of stream", "close the quotation" },
	{ "block sequence entries are not allowed in this context", "begin the list on the next line" },
	{ "did not find expected <document start>", "only one list of sections, from the first column on" },
	{ "found unknown escape character", "write a backslash as \\\\, or use single quotes" },
	{ "found undefined tag handle", "remove the tag" },
	{ "control characters are not allowed", "remove the character, or write it as \\x1b in double quotes" },
};

static const char *remedy_of(const char *problem)
{
	for (size_t i = 0; i < ARRAY_SIZE(remedies); i++)
		if (streq(problem, remedies[i].problem))
			return remedies[i].remedy;
	return "see the indentation, brackets and quotes of this line and the one before";
}

/* libyaml tells of bytes that are no text by their offset alone. */
static struct config_node place_of_offset(const char *text, size_t n, size_t offset)
{
	struct config_node at = { .line = 1, .column = 1 };

	for (size_t i = 0; i < n && i < offset; i++) {
		if (text[i] == '\n' || (text[i] == '\r' && (i + 1 == n || text[i + 1] != '\n'))) {
			at.line++;
			at.column = 1;
		} else if (((unsigned char)text[i] & 0xc0) != 0x80) {
			at.column++;
		}
	}
	return at;
}

static int parse_failed(struct parse *p, const yaml_parser_t *y, const char *text, size_t n)
{
	const char *problem = y->problem ? y->problem : "not YAML";
	struct config_node at;

	if (y->error == YAML_MEMORY_ERROR) {
		p->d->no_memory = true;
		return -ENOMEM;
	}
	if (y->error == YAML_READER_ERROR) {
		at = place_of_offset(text, n, y->problem_offset);
		if (strstr(problem, "UTF-8"))
			config_error(p->d, &at, "%s: save the file as UTF-8", problem);
		else
			config_error(p->d, &at, "%s: %s", problem, remedy_of(problem));
		return -EINVAL;
	}
	at = (struct config_node){ .line = (unsigned int)y->problem_mark.line + 1,
				   .column = (unsigned int)y->problem_mark.column + 1 };
	config_error(p->d, &at, "%s: %s", problem, remedy_of(problem));
	return -EINVAL;
}

/* A new node below the open one. */
static struct config_node *node_add(struct parse *p, const yaml_event_t *e, enum config_kind kind, size_t extra)
{
	struct config_node *parent = p->depth ? p->open[p->depth - 1] : NULL;
	struct config_node *node = chunk_alloc(p->doc, sizeof(*node) + extra);

	if (!node) {
		p->d->no_memory = true;
		return NULL;
	}
	*node = (struct config_node){ .kind = kind,
				      .line = (unsigned int)e->start_mark.line + 1,
				      .column = (unsigned int)e->start_mark.column + 1 };
	p->doc->n_nodes++;
	if (!parent) {
		p->doc->root = node;
		return node;
	}
	if (parent->last)
		parent->last->next = node;
	else
		parent->first = node;
	parent->last = node;
	parent->n++;
	return node;
}

static void refuse_decoration(struct parse *p, const struct config_node *node, const yaml_char_t *anchor,
			      const yaml_char_t *tag)
{
	if (anchor)
		config_error(p->d, node, "anchor '&%s': anchors are not used here: remove it",
			     config_shown((const char *)anchor).text);
	if (tag)
		config_error(p->d, node, "tag '%s': tags are not used here: remove it",
			     config_shown((const char *)tag).text);
}

static int on_scalar(struct parse *p, const yaml_event_t *e)
{
	size_t n = e->data.scalar.length;
	struct config_node *node = node_add(p, e, CONFIG_SCALAR, n + 1);
	char *text;

	if (!node)
		return -ENOMEM;
	text = (char *)(node + 1);
	memcpy(text, e->data.scalar.value, n);
	text[n] = '\0';
	node->text = text;
	node->is_quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
	refuse_decoration(p, node, e->data.scalar.anchor, e->data.scalar.tag);
	if (memchr(text, '\0', n)) {
		config_error(p->d, node, "a NUL character within a value: remove \\0");
		node->kind = CONFIG_BROKEN;
	}
	return 0;
}

static int on_open(struct parse *p, const yaml_event_t *e, enum config_kind kind, const yaml_char_t *anchor,
		   const yaml_char_t *tag)
{
	struct config_node *node = node_add(p, e, kind, 0);

	if (!node)
		return -ENOMEM;
	refuse_decoration(p, node, anchor, tag);
	if (p->depth == CONFIG_DEPTH_MAX) {
		config_error(p->d, node, "lists and maps are nested deeper than %d: nothing here needs that",
			     CONFIG_DEPTH_MAX);
		return -EINVAL;
	}
	p->open[p->depth++] = node;
	return 0;
}

static int on_document(struct parse *p, const yaml_event_t *e)
{
	struct config_node at = { .line = (unsigned int)e->start_mark.line + 1,
				  .column = (unsigned int)e->start_mark.column + 1 };

	if (p->n_documents++ == 0)
		return 0;
	config_error(p->d, &at, "a second document: write all sections into one, without '---' between them");
	return -EINVAL;
}

static int on_alias(struct parse *p, const yaml_event_t *e)
{
	struct config_node *node = node_add(p, e, CONFIG_BROKEN, 0);

	if (!node)
		return -ENOMEM;
	config_error(p->d, node, "alias '*%s': aliases are not used here: write the value out",
		     config_shown((const char *)e->data.alias.anchor).text);
	return 0;
}

/* 1: the end. */
static int on_event(struct parse *p, const yaml_event_t *e)
{
	if (p->doc->n_nodes >= CONFIG_NODES_MAX) {
		config_error(p->d, NULL,
			     "more than %u values in one file: spread them over files of a folder, by include:",
			     CONFIG_NODES_MAX);
		return -EINVAL;
	}
	switch (e->type) {
	case YAML_STREAM_END_EVENT:
		return 1;
	case YAML_DOCUMENT_START_EVENT:
		return on_document(p, e);
	case YAML_ALIAS_EVENT:
		return on_alias(p, e);
	case YAML_SCALAR_EVENT:
		return on_scalar(p, e);
	case YAML_SEQUENCE_START_EVENT:
		return on_open(p, e, CONFIG_LIST, e->data.sequence_start.anchor, e->data.sequence_start.tag);
	case YAML_MAPPING_START_EVENT:
		return on_open(p, e, CONFIG_MAP, e->data.mapping_start.anchor, e->data.mapping_start.tag);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		p->depth--;
		return 0;
	default:
		return 0;
	}
}

static int parse_events(struct parse *p, yaml_parser_t *y, const char *text, size_t n)
{
	int r = 0;

	while (r == 0) {
		yaml_event_t e;

		if (!yaml_parser_parse(y, &e))
			return parse_failed(p, y, text, n);
		r = on_event(p, &e);
		yaml_event_delete(&e);
	}
	return r < 0 ? r : 0;
}

int config_doc_parse(struct config_decode *d, const char *file, const char *text, size_t n, struct config_doc **ret_doc)
{
	struct config_doc *doc = new0(struct config_doc);
	struct parse p = { .d = d, .doc = doc };
	yaml_parser_t y;
	int r;

	if (!doc || !yaml_parser_initialize(&y)) {
		free(doc);
		d->no_memory = true;
		return -ENOMEM;
	}
	doc->file = d->file = file;
	doc->next = d->docs;
	d->docs = doc;
	/* A byte order mark would count as a column. */
	if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3;
		n -= 3;
	}
	yaml_parser_set_encoding(&y, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&y, (const unsigned char *)text, n);
	r = parse_events(&p, &y, text, n);
	yaml_parser_delete(&y);
	if (r < 0)
		d->is_partial = true;
	*ret_doc = doc;
	return r;
}
