// SPDX-License-Identifier: Apache-2.0
// The table of API groups and resources (resources.json). A custom resource adds rows at run time.
#pragma once
#include "object/schema.h"
#include <stdbool.h>

enum kl_verb {
    KL_VERB_GET,
    KL_VERB_LIST,
    KL_VERB_WATCH,
    KL_VERB_CREATE,
    KL_VERB_UPDATE,
    KL_VERB_PATCH,
    KL_VERB_DELETE,
    KL_VERB_DELETECOLLECTION,
    KL_VERB_COUNT
};
extern const char *const kl_verb_names[KL_VERB_COUNT];
#define KL_VERB_BIT(v) (1u << (v))

struct kl_subresource {
    const char *name;                   // "status", "scale", "exec" ...
    const char *group, *version, *kind; // of the object it takes and gives
    const struct kl_type *type;         // NULL for streams (exec, log ...)
    uint32_t verbs;                     // KL_VERB_BIT
};

struct kl_custom;

struct kl_resource {
    const char *group, *version, *plural, *singular, *kind;
    const char *api_version;                // "apps/v1", "v1"
    const struct kl_type *type, *list_type; // NULL where the resource has none
    const char *etcd_prefix;                // "/registry/pods"; NULL: not stored
    const char *storage_group, *storage_version;
    const char *storage_hash;       // storageVersionHash of discovery; NULL when none
    const char *const *short_names; // NULL-ended or NULL
    const char *const *categories;  // NULL-ended or NULL
    const struct kl_subresource *subresources;
    uint32_t verbs;
    uint16_t nsubresources;
    uint16_t index; // position in kl_resources: a key for per-resource arrays
    bool namespaced;
    bool enabled;                   // served by default
    bool preferred;                 // its version is the group's preferred one
    bool json_in_store;             // custom resources, CRDs, APIServices: JSON instead of protobuf
    const struct kl_custom *custom; // object/custom.h; NULL: a row of kl_resources
};

struct kl_group {
    const char *name;            // "" is the core group
    const char *const *versions; // NULL-ended, discovery order, those served by default first
    const char *preferred;
    const char *const *enabled; // NULL-ended
    int priority;               // APIService groupPriorityMinimum
};

extern const struct kl_resource kl_resources[];
extern const uint16_t kl_nresources;
extern const struct kl_group kl_groups[];
extern const uint16_t kl_ngroups;

// All answer NULL when there is none. Only resources served by default are found.
const struct kl_resource *kl_resource_find(struct kl_str group, struct kl_str version,
                                           struct kl_str plural);
const struct kl_resource *kl_resource_by_kind(struct kl_str group, struct kl_str version,
                                              struct kl_str kind);
// The row of the version an object of this resource is stored in (itself mostly).
const struct kl_resource *kl_resource_storage(const struct kl_resource *r);
const struct kl_subresource *kl_resource_sub(const struct kl_resource *r, struct kl_str name);
// A constant for each served row, for code that names one: KL_RES_core_v1_pods and so on come from
// the generated header object/resources_gen.h (enum of indexes); kl_res(KL_RES_core_v1_pods).
#include "object/resources_gen.h"
static inline const struct kl_resource *kl_res(uint16_t index)
{
    return &kl_resources[index];
}
