// SPDX-License-Identifier: Apache-2.0
// A ResourceList to reckon with: names and quantities, sorted by name, each once.
#pragma once
#include "object/quantity.h"
#include "object/value.h"

struct kl_amount {
    struct kl_str name;
    struct kl_quantity q;
};

struct kl_amounts {
    struct kl_arena *arena; // of the list; names are borrowed
    struct kl_amount *v;
    size_t n, cap;
    bool failed; // memory ran out: the list is not whole
};

// Finds; NULL when the name is not there.
struct kl_amount *kl_amounts_get(const struct kl_amounts *l, struct kl_str name);
void kl_amounts_set(struct kl_amounts *l, struct kl_str name, const struct kl_quantity *q);
void kl_amounts_set_int(struct kl_amounts *l, const char *name, int64_t value);
// One name, or every name of a list: sum, maximum; names that were not there come in.
void kl_amounts_add(struct kl_amounts *l, struct kl_str name, const struct kl_quantity *q);
void kl_amounts_add_all(struct kl_amounts *l, const struct kl_amounts *more);
void kl_amounts_max_all(struct kl_amounts *l, const struct kl_amounts *more);
bool kl_amounts_equal(const struct kl_amounts *a, const struct kl_amounts *b);
// From a map of quantities (NULL: none), canonical or draft. What cannot be read counts as zero:
// such values do not pass validation.
void kl_amounts_read(struct kl_amounts *l, struct kl_arena *a, const struct kl_value *map);
// To a map in l's arena. KL_ENOMEM.
int kl_amounts_write(const struct kl_amounts *l, struct kl_value *ret_map);
// "cpu=1,memory=2Gi", in l's arena.
struct kl_str kl_amounts_text(const struct kl_amounts *l);

// What a pod asks for as a whole (component-helpers PodRequests, PodLimits): containers, what init
// containers take at their time, pod-level resources, overhead. `pod` is the root.
enum {
    KL_POD_SUM_STATUS = 1 << 0,      // a resize that is going on counts with the larger value
    KL_POD_SUM_NO_OVERHEAD = 1 << 1, // without spec.overhead
    KL_POD_SUM_PLAIN = 1 << 2,       // pod-level huge pages do not count
};
void kl_pod_requests(struct kl_amounts *l, struct kl_arena *a, const struct kl_value *pod,
                     unsigned how);
void kl_pod_limits(struct kl_amounts *l, struct kl_arena *a, const struct kl_value *pod,
                   unsigned how);
// Whether pod-level requests or limits of cpu, memory or huge pages are set.
bool kl_pod_level_set(const struct kl_value *pod);
// "BestEffort", "Burstable" or "Guaranteed", by what is asked for (status is not looked at).
const char *kl_pod_qos_class(const struct kl_value *pod);
