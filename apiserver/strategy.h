// SPDX-License-Identifier: Apache-2.0
// What a kind does beyond the generic registry: upstream's rest strategies, one row each.
#pragma once
#include "apiserver/admission/admission.h"
#include "apiserver/crd/convert.h"

enum {
    KL_STRAT_GENERATION = 1 << 0, // metadata.generation counts changes of what is not status
    KL_STRAT_CREATE_ON_UPDATE = 1 << 1,
    KL_STRAT_NEEDS_RV = 1 << 2,       // no unconditional update
    KL_STRAT_KEEP_STATUS = 1 << 3,    // status sent on create stays (nodes)
    KL_STRAT_RETURN_DELETED = 1 << 4, // DELETE answers the object, not a Status
    KL_STRAT_ORPHANS = 1 << 5,        // dependents stay unless the deletion says otherwise
    KL_STRAT_NO_GC = 1 << 6,          // has no dependents: propagation means nothing
    KL_STRAT_ANNOTATED = 1 << 7,      // annotations count for the generation too
    KL_STRAT_LABELLED = 1 << 8,       // labels do
};

typedef void kl_check_fn(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                         struct kl_field_errors *e);

struct kl_strategy {
    uint16_t res; // KL_RES_... of the storage row
    unsigned flags;
    const char *(*name_check)(struct kl_str name); // NULL: DNS-1123 subdomain
    // Change a draft in its storage version, before validation. A negative code filled r->fail.
    int (*prepare_create)(struct kl_req *r, struct kl_value *draft);
    int (*prepare_update)(struct kl_req *r, struct kl_value *draft, const struct kl_value *old);
    // What goes with an object that is removed (r->write takes more operations). NULL: nothing.
    int (*release)(struct kl_req *r, const struct kl_value *old);
    // Seconds of grace a deletion gets when there is any (pods), else NULL: none.
    int64_t (*grace)(struct kl_req *r, const struct kl_value *object);
    // What is wrong that takes more than the object to know (old NULL on create): who asks, before
    // the rules of object/validate; what a library says, behind them. NULL: nothing.
    kl_check_fn *check_access, *check_more;
};

// The kind's row, or one with the defaults.
const struct kl_strategy *kl_strategy_of(const struct kl_resource *storage);

// ---- meta.c
// EnsureObjectNamespaceMatchesRequestNamespace. Negative: r->fail is set.
int kl_meta_take_namespace(struct kl_req *r, struct kl_value *draft);
// BeforeCreate: namespace, name, uid, creationTimestamp ... Negative: r->fail is set.
int kl_meta_before_create(struct kl_req *r, const struct kl_strategy *s, struct kl_value *draft);
// What stands twice among the owners is dropped, with a warning, as upstream does before owners of
// fields are worked out and after mutating admission. KL_ENOMEM: r->fail is set.
int kl_meta_dedup_owners(struct kl_req *r, struct kl_value *draft, bool after_admission);
void kl_meta_validate(struct kl_req *r, const struct kl_strategy *s, const struct kl_value *now,
                      const struct kl_value *old, struct kl_field_errors *e);

// ---- rules.c
// What is wrong with an object that is to be written; both sides canonical, old NULL on create.
// Negative: r->fail is set, nothing could be said.
int kl_rules_check(struct kl_req *r, const struct kl_strategy *s, const struct kl_value *now,
                   const struct kl_value *old, struct kl_field_errors *e);
// What an object that is well is warned of all the same (object/validate/warn.h). bumped: its
// generation changes.
void kl_rules_warn(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                   bool bumped);

// A free name of a generateName prefix (names.SimpleNameGenerator).
struct kl_str kl_generate_name(struct kl_arena *a, struct kl_str prefix);

// ---- drafts in the version of the request
// Defaults, and what upstream's conversion to the internal version and back leaves in the object
// that it shows. KL_ENOMEM: r->fail is set.
int kl_draft_default(struct kl_req *r, struct kl_value *draft);
// What upstream's conversion of such a draft fails with; NULL: nothing. Only with memory out the
// text is not of the arena.
const char *kl_draft_misfit(struct kl_arena *a, const struct kl_type *type,
                            const struct kl_value *draft);

// ---- write.c: the one way into the store for objects.
// Makes the new draft out of the stored object (NULL when there is none). Called again with a newer
// one when the write lost a race.
enum kl_write_verdict {
    KL_WRITE_PUT,            // store *draft
    KL_WRITE_NOTHING,        // answer the stored object as it is
    KL_WRITE_REMOVE,         // delete the key; *draft is the object that was
};                           // negative: r->fail is filled
enum { KL_WRITE_EXTRA = 4 }; // further compares and operations of one write: two addresses, ports

struct kl_write {
    struct kl_req *r;
    const struct kl_resource *res; // what is written (not r->info.res for side writes)
    struct kl_str key;
    int (*transform)(struct kl_write *w, struct kl_object *stored, struct kl_value *draft);
    // What goes through admission: 0: nothing does (it did before, or it is a write of our own).
    // Mutating admission comes after transform, then `settle` (prepares and validates the draft,
    // gives the verdict), then validating admission; each run of the machine does all of it, but
    // for creates (`fresh`), whose mutating admission their starter runs once. transform may set
    // ad.draft, ad.object, ad.old and their form when what is admitted is not the stored object.
    // Any of it may wait, and all is run again after a lost race.
    enum kl_admit_op op;
    int (*settle)(struct kl_write *w, struct kl_object *stored, struct kl_value *draft);
    // Called when it is over, with the object as it is now (as it was, for REMOVE; as it would be,
    // for a dry run), which lives during the call; NULL answers the request with the object. It
    // must end the request.
    void (*finish)(struct kl_write *w, struct kl_object *now);
    void *arg;
    bool exact;         // a lost race is a Conflict, not another try
    bool fresh;         // create: a key that exists is AlreadyExists
    bool status_answer; // REMOVE answers a Status instead of the object
    int64_t lease;
    // filled by transform when the write needs more than its key
    struct kl_compare extra_cmp[KL_WRITE_EXTRA];
    struct kl_op extra_op[KL_WRITE_EXTRA];
    size_t nextra_cmp, nextra_op;
    // Called when the transaction failed though the key was as expected: an extra compare did not
    // hold. 0: try again.
    int (*extra_failed)(struct kl_write *w);
    struct kl_write_more *more; // kl_write_charge's, of this run and earlier ones

    struct kl_admit ad;

    // the machine's
    struct kl_txn txn;
    uint64_t submitted_ns;
    struct kl_span *span; // of the transaction (trace/trace.h)
    struct kl_compare cmp[2 + KL_WRITE_EXTRA];
    struct kl_op then[1 + KL_WRITE_EXTRA], els[1];
    struct kl_value draft;
    struct kl_object *settled; // the draft as settle left it, if settle has frozen it
    struct kl_object *object;
    struct kl_object *in_store; // what a webhook made of it for the store
    struct kl_conversion conversion;
    struct kl_bytes *bytes;
    struct kl_kv *stored;
    struct kl_kv *written; // while a webhook makes the answer of it
    struct kl_object *was; // stored, decoded: the draft and `ad` refer to it, also through a wait
    kl_rev guard; // of the keys that `bytes` is sealed with (encryption/encryption.h); -1: none
    int verdict;
    bool ownerless; // it was too large: managedFields are left out
    int tries, guard_tries;
};
// For transforms: another key that this write must find at `expect` (0: absent) and sets. `value`
// is borrowed until the request's end. At most KL_WRITE_EXTRA.
void kl_write_put_too(struct kl_write *w, struct kl_str key, kl_rev expect, struct kl_bytes *value);
// For validating admission: another object (a ResourceQuota) that goes with this write, as above
// but without a limit, and `value` is taken over. When it lost a race the machine runs again, and
// again as long as others win. KL_ENOMEM.
int kl_write_charge(struct kl_write *w, struct kl_str key, kl_rev expect, struct kl_bytes *value);
// The newest version that is known of such a key (borrowed): the view's, or what a lost race found.
struct kl_kv *kl_write_newest(const struct kl_write *w, struct kl_str key);
// Reads the newest version from the view and runs the machine. w lives in the request's arena.
void kl_write_start(struct kl_write *w);

// ---- create.c, for others: runs a create of a draft in info.res' version.
void kl_create_draft(struct kl_req *r, struct kl_value draft);
// Takes a draft from the version of the request to the stored one. Negative: r->fail is set.
int kl_draft_to_storage(struct kl_req *r, struct kl_value *draft);
// settle of updates and patches: `draft` in the storage version over `stored`; verdict as above.
int kl_update_settle(struct kl_write *w, struct kl_object *stored, struct kl_value *draft);
// The draft is the object of the URL; it gets the request's namespace. Negative: r->fail is set.
int kl_update_check_identity(struct kl_req *r, struct kl_value *draft);
// kl_write_start for an update, with the lease that Events have.
void kl_update_start(struct kl_write *w);
// The three steps of a patch of r->opts.patch_type: r->body to an untyped value, onto an untyped
// tree, and the result back to a typed draft (by r->opts.field_validation). Negative: r->fail is
// set.
int kl_patch_parse(struct kl_req *r, struct kl_value *ret);
int kl_patch_run(struct kl_req *r, const struct kl_type *type, const struct kl_value *was,
                 const struct kl_value *patch, struct kl_value *ret);
int kl_patch_retype(struct kl_req *r, const struct kl_type *type, const struct kl_value *patch,
                    const struct kl_value *patched, struct kl_value *draft);

// ---- delete.c, for others: the transform of a deletion by the options in r->opts; and what goes
// with an object that is removed (KL_WRITE_REMOVE or negative).
int kl_delete_transform(struct kl_write *w, struct kl_object *stored, struct kl_value *draft);
int kl_release(struct kl_req *r, const struct kl_value *old);
// ---- eviction.c
void kl_eviction_run(struct kl_req *r);
// A pod bound: also reached by creating a Binding.
void kl_binding_run(struct kl_req *r);
