// SPDX-License-Identifier: Apache-2.0
// What the writers of upgraded documents share: members by tables, as Go's types read and write
// them, and schemas (upgrade_schema.c); operations and the document (upgrade.c).
#pragma once
#include "apiserver/aggregate/upgrade.h"

struct kl_up {
    struct kl_buf *b;
    bool bad; // something is of another kind than its type
};

enum kl_up_how {
    TEXT,
    TEXT_KEPT, // an empty one too
    FLAG,
    NUMBER,
    WHOLE,
    ANY,        // but null
    ANY_FILLED, // but null, "", {} and []
    LIST,
    TEXTS,
    NAMED_TEXTS,
    TYPE,
    SCHEMA,
    SCHEMAS,
    NAMED_SCHEMAS,
    SCHEMA_OR_BOOL,
    SCHEMA_OR_LIST,
    DEPENDENCIES,
    DOCS,
    DOCS3, // of version 3's type
    CONTACT,
    LICENSE,
};

struct kl_up_member {
    const char *name;
    enum kl_up_how how;
    bool converts; // references below it get their new place
};

// Name and colon of the next member; `some`: there is one before.
void kl_up_name(struct kl_up *u, bool *some, struct kl_str name);
void kl_up_item(struct kl_up *u, bool *some); // the comma before another item
// Whether there is something of the kind; another kind is an error, null is nothing.
bool kl_up_is(struct kl_up *u, const struct kl_value *v, enum kl_value_kind kind);
bool kl_up_is_extension(struct kl_str name);
void kl_up_extensions(struct kl_up *u, bool *some, const struct kl_value *v);
void kl_up_members(struct kl_up *u, bool *some, const struct kl_value *v,
                   const struct kl_up_member *m);
void kl_up_check_texts(struct kl_up *u, const struct kl_value *list);
// The reference with `from` in it replaced, once; with what stands before it or without. As it is
// when that is not there, or empty.
void kl_up_ref(struct kl_up *u, struct kl_str ref, struct kl_str from, struct kl_str to,
               bool drops_front);
// `converts`: references in it get their new place.
void kl_up_schema(struct kl_up *u, const struct kl_value *v, bool converts);
