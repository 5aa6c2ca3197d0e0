// SPDX-License-Identifier: Apache-2.0
// What a kind does beyond the generic registry: upstream's rest strategies, one row each.
#pragma once
#include "apiserver/server_int.h"

enum {
    KL_STRAT_GENERATION = 1 << 0,     // metadata.generation counts changes of what is not status
    KL_STRAT_CREATE_ON_UPDATE = 1 << 1,
    KL_STRAT_NEEDS_RV = 1 << 2,       // no unconditional update
    KL_STRAT_KEEP_STATUS = 1 << 3,    // status sent on create stays (nodes)
    KL_STRAT_RETURN_DELETED = 1 << 4, // DELETE answers the object, not a Status
};

struct kl_strategy {
    uint16_t res; // KL_RES_... of the storage row
    unsigned flags;
    const char *(*name_check)(struct kl_str name); // NULL: DNS-1123 subdomain
    // Change a draft in its storage version, before validation. A negative code filled r->fail.
    int (*prepare_create)(struct kl_req *r, struct kl_value *draft);
    int (*prepare_update)(struct kl_req *r, struct kl_value *draft, const struct kl_value *old);
    void (*validate)(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                     struct kl_field_errors *e); // old NULL on create
    // Seconds of grace a deletion gets when there is any (pods), else NULL: none.
    int64_t (*grace)(struct kl_req *r, const struct kl_value *object);
};

// The kind's row, or one with the defaults.
const struct kl_strategy *kl_strategy_of(const struct kl_resource *storage);

// ---- admission.c: the built-in plug-ins, on drafts in the storage version. Negative: r->fail is set.
int kl_admit_create(struct kl_req *r, struct kl_value *draft);
int kl_admit_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old);
int kl_admit_delete(struct kl_req *r, const struct kl_value *old);

// ---- meta.c
// BeforeCreate: namespace, name, uid, creationTimestamp ... Negative: r->fail is set.
int kl_meta_before_create(struct kl_req *r, const struct kl_strategy *s, struct kl_value *draft);
void kl_meta_validate(struct kl_req *r, const struct kl_strategy *s, const struct kl_value *now,
                      const struct kl_value *old, struct kl_field_errors *e);

// ---- write.c: the one way into the store for objects.
enum kl_write_kind { KL_WRITE_CREATE, KL_WRITE_UPDATE, KL_WRITE_DELETE };
// Makes the new draft out of the stored object (NULL when there is none). Called again with a newer
// one when the write lost a race. 0: write *draft; KL_WRITE_NOTHING: answer the stored object as it is;
// KL_WRITE_REMOVE: delete the key, *draft being the object to answer; negative: r->fail is filled.
enum { KL_WRITE_NOTHING = 1, KL_WRITE_REMOVE = 2 };
struct kl_write {
    struct kl_req *r;
    struct kl_str key;
    int (*transform)(struct kl_write *w, struct kl_object *stored, struct kl_kv *stored_kv,
                     struct kl_value *draft);
    void (*finish)(struct kl_write *w, struct kl_kv *kv, bool created, bool removed); // NULL: answer
    void *arg;
    // of the machine
    struct kl_txn txn;
    struct kl_compare cmp[2];
    struct kl_op then[4], els[1];
    struct kl_value draft;
    struct kl_object *object;
    struct kl_kv *stored;
    bool removing;
    int tries;
    bool exact; // the caller gave a resourceVersion: a lost race is a Conflict, not a retry
};
// Reads the newest version from the view and runs the machine. w lives in the request's arena.
void kl_write_start(struct kl_write *w);
