// SPDX-License-Identifier: Apache-2.0
// Ranges of Service addresses are ready when they are there, and go only when no address needs them
// (upstream: pkg/controller/servicecidrs).
#include "controllers/controllers_int.h"
#include "controllers/finalizer.h"
#include <arpa/inet.h>
#include <stdlib.h>

enum { GRACE_MS = 10 * 1000 }; // until every allocator has seen that a range goes
#define FINALIZER "networking.k8s.io/service-cidr-finalizer"
#define MANAGED_BY "ipaddress.kubernetes.io/managed-by"

struct cidrs {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler;
    struct kl_informer *cidrs, *addresses;
    struct kl_handler cidr_handler, address_handler;
};

static const struct kl_resource *cidrs_res(void)
{
    return kl_res(KL_RES_networking_v1_servicecidrs);
}

// ---- prefixes

struct prefix {
    unsigned char ip[16];
    int bytes, bits;
};

static bool parse_ip(struct kl_str text, struct prefix *ret)
{
    char buf[64];
    if (text.n >= sizeof buf)
        return false;
    memcpy(buf, text.p, text.n);
    buf[text.n] = 0;
    ret->bytes = kl_str_chr(text, ':') >= 0 ? 16 : 4;
    ret->bits = 8 * ret->bytes;
    return inet_pton(ret->bytes == 16 ? AF_INET6 : AF_INET, buf, ret->ip) == 1;
}

static bool parse_prefix(struct kl_str text, struct prefix *ret)
{
    ptrdiff_t slash = kl_str_chr(text, '/');
    int64_t bits;
    if (slash < 0 || !kl_str_to_i64(kl_str_from(text, (size_t)slash + 1), &bits) ||
        !parse_ip((struct kl_str){text.p, (size_t)slash}, ret) || bits < 0 || bits > ret->bits)
        return false;
    ret->bits = (int)bits;
    return true;
}

static bool contains(const struct prefix *outer, const struct prefix *inner)
{
    if (outer->bytes != inner->bytes || outer->bits > inner->bits)
        return false;
    for (int i = 0; i < outer->bits; i++)
        if ((outer->ip[i / 8] ^ inner->ip[i / 8]) >> (7 - i % 8) & 1)
            return false;
    return true;
}

// How many ranges contain it; *ret_self: one of them is this one.
static size_t count_containing(const struct cidrs *c, const struct prefix *what, struct kl_str self,
                               bool *ret_self)
{
    size_t it = 0, n = 0;
    *ret_self = false;
    for (struct kl_entry *e; (e = kl_informer_next(c->cidrs, &it));) {
        bool has = false;
        for (KL_EACH(x, kl_path(&e->object->root, KL_F_spec, KL_F_cidrs))) {
            struct prefix p;
            has |= parse_prefix(kl_text(x), &p) && contains(&p, what);
        }
        n += has;
        *ret_self |= has && kl_str_eq(e->key, self);
    }
    return n;
}

// canDeleteCIDR: other ranges contain it, or no address is only in it.
static bool may_go(const struct cidrs *c, const struct kl_value *cidr)
{
    struct kl_str self = kl_meta_name(cidr);
    bool has_parent = true, is_self;
    struct prefix p;
    for (KL_EACH(x, kl_path(cidr, KL_F_spec, KL_F_cidrs)))
        if (parse_prefix(kl_text(x), &p)) {
            size_t n = count_containing(c, &p, self, &is_self);
            has_parent &= n > 1 || (n == 1 && !is_self);
        }
    if (has_parent)
        return true;
    size_t it = 0;
    for (struct kl_entry *e; (e = kl_informer_next(c->addresses, &it));) {
        const struct kl_value *by =
            kl_map_value(kl_meta_labels(&e->object->root), KL_STR(MANAGED_BY));
        if (kl_str_eqz(kl_text(by), "ipallocator.k8s.io") && parse_ip(e->key, &p) &&
            count_containing(c, &p, self, &is_self) == 1 && is_self)
            return false;
    }
    return true;
}

// ---- decisions

static void write_ready(struct kl_plan *p, struct kl_object *cidr, bool ready, const char *reason,
                        const char *message)
{
    const struct cidrs *c = p->arg;
    struct kl_arena *a = &p->arena;
    const struct kl_value *conditions = kl_path(&cidr->root, KL_F_status, KL_F_conditions);
    struct kl_value list = kl_new_array(), x = kl_new_struct();
    const char *status = ready ? "True" : "False";
    for (KL_EACH(o, conditions)) {
        if (!kl_str_eqz(kl_text(kl_get(o, KL_F_type)), "Ready"))
            kl_append(a, &list, *o);
        else if (kl_str_eqz(kl_text(kl_get(o, KL_F_status)), status) &&
                 kl_str_eqz(kl_text(kl_get(o, KL_F_reason)), reason) &&
                 kl_str_eqz(kl_text(kl_get(o, KL_F_message)), message))
            return;
    }
    struct kl_value draft = kl_object_draft(kl_plan_hold(p, cidr));
    kl_set_z(a, &x, KL_F_type, "Ready");
    kl_set_z(a, &x, KL_F_status, status);
    kl_set(a, &x, KL_F_lastTransitionTime,
           kl_time(kl_timers_wall_us(c->env.timers) / 1000000 * 1000000));
    kl_set_z(a, &x, KL_F_reason, reason);
    kl_set_z(a, &x, KL_F_message, message);
    kl_append(a, &list, x);
    struct kl_value *st = kl_edit(a, &draft, KL_F_status, KL_STRUCT);
    if (!st || kl_set(a, st, KL_F_conditions, list)) {
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
        return;
    }
    struct kl_action *w = kl_plan_write(p, KL_VERB_UPDATE, cidrs_res(), "status", &draft);
    if (w)
        w->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
}

static void decide(struct kl_plan *p)
{
    const struct cidrs *c = p->arg;
    struct kl_object *cidr = kl_informer_get_key(c->cidrs, p->key);
    if (!cidr)
        return;
    if (!kl_meta_deleting(&cidr->root)) {
        // The write of the finalizer comes back as an event, and then it is the condition's turn.
        if (!kl_has_finalizer(&cidr->root, FINALIZER))
            kl_plan_finalizer(p, cidrs_res(), cidr, FINALIZER, true);
        else
            write_ready(p, cidr, true, "", "Kubernetes Service CIDR is ready");
        return;
    }
    if (!may_go(c, &cidr->root)) {
        write_ready(p, cidr, false, "Terminating",
                    "There are still IPAddresses referencing the ServiceCIDR, please remove them "
                    "or create a new ServiceCIDR");
        return;
    }
    int64_t since = kl_int_at(&cidr->root, 0, KL_F_metadata, KL_F_deletionTimestamp);
    int64_t left_ms = GRACE_MS - (kl_timers_wall_us(c->env.timers) - since) / 1000;
    if (left_ms > 0)
        kl_plan_requeue(p, left_ms);
    else if (kl_has_finalizer(&cidr->root, FINALIZER))
        kl_plan_finalizer(p, cidrs_res(), cidr, FINALIZER, false);
}

// ---- what changed

static void add_all(struct cidrs *c)
{
    size_t it = 0;
    for (struct kl_entry *e; (e = kl_informer_next(c->cidrs, &it));)
        kl_reconciler_add(c->reconciler, e->key);
}

static void on_cidr(struct kl_handler *h, struct kl_object *cidr)
{
    struct cidrs *c = h->arg;
    kl_reconciler_add_object(c->reconciler, &cidr->root);
}

static void on_cidr_update(struct kl_handler *h, struct kl_object *old, struct kl_object *cidr)
{
    (void)old;
    on_cidr(h, cidr);
}

// Another range may hold what kept one that goes, or do so no more. There are few of them.
static void on_cidr_remove(struct kl_handler *h, struct kl_object *cidr)
{
    (void)cidr;
    add_all(h->arg);
}

static void on_address_remove(struct kl_handler *h, struct kl_object *address)
{
    struct cidrs *c = h->arg;
    size_t it = 0;
    (void)address;
    for (struct kl_entry *e; (e = kl_informer_next(c->cidrs, &it));)
        if (kl_meta_deleting(&e->object->root))
            kl_reconciler_add(c->reconciler, e->key);
}

static void on_cidr_add(struct kl_handler *h, struct kl_object *cidr)
{
    struct cidrs *c = h->arg;
    kl_reconciler_add_object(c->reconciler, &cidr->root);
    size_t it = 0;
    for (struct kl_entry *e; (e = kl_informer_next(c->cidrs, &it));)
        if (kl_meta_deleting(&e->object->root))
            kl_reconciler_add(c->reconciler, e->key);
}

static void stop(void *self)
{
    struct cidrs *c = self;
    if (c->cidrs)
        kl_informer_remove_handler(c->cidrs, &c->cidr_handler);
    if (c->addresses)
        kl_informer_remove_handler(c->addresses, &c->address_handler);
    kl_reconciler_free(c->reconciler);
    free(c);
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    struct cidrs *c = calloc(1, sizeof *c);
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "service-cidr controller: out of memory");
    c->env = *env;
    c->cidrs = kl_informers_get(env->informers, cidrs_res());
    c->addresses = kl_informers_get(env->informers, kl_res(KL_RES_networking_v1_ipaddresses));
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){.name = "service-cidr",
                                                                   .client = env->client,
                                                                   .timers = env->timers,
                                                                   .recorder = env->recorder,
                                                                   .decide = decide,
                                                                   .arg = c});
    if (!c->cidrs || !c->addresses || !c->reconciler ||
        kl_reconciler_needs(c->reconciler, c->cidrs) < 0 ||
        kl_reconciler_needs(c->reconciler, c->addresses) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "service-cidr controller: out of memory");
    }
    c->cidr_handler = (struct kl_handler){
        .add = on_cidr_add, .update = on_cidr_update, .remove = on_cidr_remove, .arg = c};
    c->address_handler = (struct kl_handler){.remove = on_address_remove, .arg = c};
    kl_informer_add_handler(c->cidrs, &c->cidr_handler);
    kl_informer_add_handler(c->addresses, &c->address_handler);
    kl_reconciler_start(c->reconciler);
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct cidrs *)self)->reconciler);
}

const struct kl_controller kl_service_cidr_controller = {
    .name = "service-cidr",
    .user = "system:serviceaccount:kube-system:service-cidrs-controller",
    .component = "service-cidr-controller",
    .start = start,
    .stop = stop,
    .idle = idle,
};
