// SPDX-License-Identifier: Apache-2.0
#include "apiserver/served.h"
#include "apiserver/settings.h"
#include <ctype.h>
#include <stdlib.h>

enum { ROWS_MAX = 256, PARTS_MAX = 4 };

struct kl_served {
    bool on[ROWS_MAX]; // by row of kl_resources
};

// Resources that upstream installs only with their gate.
static const struct {
    const char *plural, *gate;
} gated[] = {{"clustertrustbundles", "ClusterTrustBundle"},
             {"podcertificaterequests", "PodCertificateRequest"},
             {"podgroups", "GenericWorkload"},
             {"storageversionmigrations", "StorageVersionMigrator"},
             {"workloads", "GenericWorkload"}};

// Versions that upstream's schemes still know though no server serves them: to name one is no
// error, and does nothing.
static const char *const known_versions[] = {
    "admission.k8s.io/v1",
    "admission.k8s.io/v1beta1",
    "apiextensions.k8s.io/v1beta1",
    "apiregistration.k8s.io/v1beta1",
    "apps/v1beta1",
    "apps/v1beta2",
    "authentication.k8s.io/v1alpha1",
    "authentication.k8s.io/v1beta1",
    "authorization.k8s.io/v1beta1",
    "batch/v1beta1",
    "discovery.k8s.io/v1beta1",
    "events.k8s.io/v1beta1",
    "extensions/v1beta1",
    "flowcontrol.apiserver.k8s.io/v1beta1",
    "flowcontrol.apiserver.k8s.io/v1beta2",
    "flowcontrol.apiserver.k8s.io/v1beta3",
    "imagepolicy.k8s.io/v1alpha1",
    "node.k8s.io/v1alpha1",
    "node.k8s.io/v1beta1",
    "policy/v1beta1",
    "rbac.authorization.k8s.io/v1alpha1",
    "rbac.authorization.k8s.io/v1beta1",
    "scheduling.k8s.io/v1beta1",
    "storage.k8s.io/v1alpha1",
};

struct entry {
    struct kl_str key, value;
    struct kl_str part[PARTS_MAX];
    size_t nparts;
};

static void split_entry(const char *text, struct entry *e)
{
    struct kl_str s = kl_str_trim(kl_str(text)), rest;
    ptrdiff_t eq = kl_str_chr(s, '=');
    *e = (struct entry){.key = eq < 0 ? s : (struct kl_str){s.p, (size_t)eq},
                        .value = eq < 0 ? KL_STR("") : kl_str_from(s, (size_t)eq + 1)};
    // All that is said of a core resource is about the version: "v1/pods=false" is "v1=false".
    if (kl_str_eqz(e->key, "v1") || kl_str_starts(e->key, KL_STR("v1/")) ||
        kl_str_eqz(e->key, "api/v1") || kl_str_starts(e->key, KL_STR("api/v1/")))
        e->key = KL_STR("/v1");
    rest = e->key;
    while (e->nparts < PARTS_MAX && kl_str_split(&rest, '/', &e->part[e->nparts]))
        e->nparts++;
}

// v1, v1beta1 and v1alpha1 are 'g', 'b' and 'a'.
static char stability(const char *version)
{
    return strstr(version, "alpha") ? 'a' : strstr(version, "beta") ? 'b' : 'g';
}

// 'g', 'b', 'a', '*' for all; 0: no such word.
static char matcher(struct kl_str key)
{
    static const char *const words[] = {"api/all", "api/ga", "api/beta", "api/alpha"};
    for (size_t i = 0; i < KL_COUNT(words); i++)
        if (kl_str_eqz(key, words[i]))
            return "*gba"[i];
    return 0;
}

// A word of the past, which is passed over.
static bool is_legacy(struct kl_str key)
{
    return kl_str_eqz(key, "api/legacy");
}

static int flag_value(const struct entry *e, bool *ret, struct kl_error *err)
{
    static const char *const yes[] = {"", "1", "t", "T", "true", "TRUE", "True"};
    static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};
    for (size_t i = 0; i < KL_COUNT(yes); i++)
        if (kl_str_eqz(e->value, yes[i])) {
            *ret = true;
            return 0;
        }
    for (size_t i = 0; i < KL_COUNT(no); i++)
        if (kl_str_eqz(e->value, no[i])) {
            *ret = false;
            return 0;
        }
    return kl_error_set(err, KL_EINVALID,
                        "invalid value of %.*s: %.*s, err: strconv.ParseBool: parsing \"%.*s\": "
                        "invalid syntax",
                        KL_PRI(e->key), KL_PRI(e->value), KL_PRI(e->value));
}

static int match_all(struct kl_served *s, const struct entry *e, char m, struct kl_error *err)
{
    bool on = kl_str_eqz(e->value, "true");
    if (!on && !kl_str_eqz(e->value, "false"))
        return kl_error_set(err, KL_EINVALID, "invalid value %.*s=%.*s", KL_PRI(e->key),
                            KL_PRI(e->value));
    for (uint16_t i = 0; i < kl_nresources; i++)
        if (m == '*' || stability(kl_resources[i].version) == m)
            s->on[i] = on;
    return 0;
}

// "GROUP/VERSION" or, for all versions of a group, "GROUP/".
static bool is_known(struct kl_str group, struct kl_str version)
{
    for (uint16_t i = 0; i < kl_ngroups; i++)
        for (size_t k = 0; kl_str_eqz(group, kl_groups[i].name) && kl_groups[i].versions[k]; k++)
            if (!version.n || kl_str_eqz(version, kl_groups[i].versions[k]))
                return true;
    for (size_t i = 0; i < KL_COUNT(known_versions); i++) {
        struct kl_str g, v = kl_str(known_versions[i]);
        if (kl_str_split(&v, '/', &g) && kl_str_eq(g, group) &&
            (!version.n || kl_str_eq(v, version)))
            return true;
    }
    return false;
}

static int match_version(struct kl_served *s, const struct entry *e, struct kl_error *err)
{
    bool on = false;
    int rc = flag_value(e, &on, err);
    if (!is_known(e->part[0], e->part[1]))
        return kl_error_set(err, KL_EINVALID,
                            "group version %.*s/%.*s that has not been registered",
                            KL_PRI(e->part[0]), KL_PRI(e->part[1]));
    for (size_t i = 0; !rc && e->nparts == 3 && i < e->part[2].n; i++)
        if (isupper((unsigned char)e->part[2].p[i]))
            rc = kl_error_set(err, KL_EINVALID,
                              "invalid key %.*s: group/version/resource and resource is always "
                              "lowercase plural, not \"%.*s\"",
                              KL_PRI(e->key), KL_PRI(e->part[2]));
    for (uint16_t i = 0; !rc && i < kl_nresources; i++) {
        const struct kl_resource *r = &kl_resources[i];
        if (kl_str_eqz(e->part[0], r->group) && kl_str_eqz(e->part[1], r->version) &&
            (e->nparts == 2 || kl_str_eqz(e->part[2], r->plural)))
            s->on[i] = on;
    }
    return rc;
}

// Names each unknown group version once, in order of their text.
static int unknown_groups(const char *const *list, struct kl_error *err)
{
    struct kl_str last = {"", 0};
    struct kl_buf text;
    kl_buf_init(&text, KL_ERROR_TEXT_MAX);
    for (;;) {
        struct kl_str next = {NULL, 0};
        for (const char *const *p = list; *p; p++) {
            struct entry e;
            split_entry(*p, &e);
            if (e.nparts < 2 || matcher(e.key) || is_legacy(e.key) ||
                is_known(e.part[0], KL_STR("")))
                continue;
            struct kl_str gv = {e.key.p, (size_t)(e.part[1].p + e.part[1].n - e.key.p)};
            if (kl_str_cmp(gv, last) > 0 && (!next.p || kl_str_cmp(gv, next) < 0))
                next = gv;
        }
        if (!next.p)
            break;
        kl_buf_printf(&text, text.n ? ",%.*s" : "%.*s", KL_PRI(next));
        last = next;
    }
    int rc = text.n ? kl_error_set(err, KL_EINVALID, "unknown api groups %.*s",
                                   KL_PRI(kl_buf_str(&text)))
                    : 0;
    kl_buf_fini(&text);
    return rc;
}

static int check_entries(const char *const *list, struct kl_error *err)
{
    struct entry e;
    for (const char *const *p = list; *p; p++) {
        split_entry(*p, &e);
        if (matcher(e.key) == '*' && kl_str_eqz(e.value, "false") && !list[1])
            return kl_error_set(err, KL_EINVALID, "invalid runtime-config with only api/all=false");
        if (!is_legacy(e.key) && !matcher(e.key) && e.nparts != 2 && e.nparts != 3)
            return kl_error_set(err, KL_EINVALID, "runtime-config invalid key %.*s", KL_PRI(e.key));
    }
    return unknown_groups(list, err);
}

static int apply_entries(struct kl_served *s, const char *const *list, struct kl_error *err)
{
    static const char order[] = "*gba23"; // words, then versions, then resources
    struct entry e;
    int rc = 0;
    for (const char *o = order; *o && !rc; o++)
        for (const char *const *p = list; *p && !rc; p++) {
            split_entry(*p, &e);
            if (matcher(e.key))
                rc = matcher(e.key) == *o ? match_all(s, &e, *o, err) : 0;
            else if (!is_legacy(e.key) && (size_t)(*o - '0') == e.nparts)
                rc = match_version(s, &e, err);
        }
    return rc;
}

// Fairness lives by a group of its own. What is said of the group counts more than what is said of
// all that is stable, and that more than what is said of everything.
static int check_fairness(const char *const *list, struct kl_error *err)
{
    static const char *const keys[] = {"flowcontrol.apiserver.k8s.io/v1", "api/ga", "api/all"};
    for (size_t i = 0; i < KL_COUNT(keys); i++)
        for (const char *const *p = list; *p; p++) {
            struct entry e;
            split_entry(*p, &e);
            if (!kl_str_eqz(e.key, keys[i]))
                continue;
            if (kl_str_eqz(e.value, "true"))
                return 0;
            if (kl_str_eqz(e.value, "false"))
                return kl_error_set(err, KL_EINVALID,
                                    "--runtime-config=%s=false conflicts with "
                                    "--enable-priority-and-fairness=true",
                                    keys[i]);
        }
    return 0;
}

int kl_served_new(const struct kl_api_settings *settings, const struct kl_gate_set *gates,
                  struct kl_served **ret, struct kl_error *err)
{
    const char *const *runtime_config = settings->runtime_config;
    *ret = NULL;
    if (!runtime_config || !*runtime_config)
        return 0;
    struct kl_served *s = calloc(1, sizeof *s);
    if (!s)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    int rc = kl_nresources > ROWS_MAX
                 ? kl_error_set(err, KL_ELIMIT, "more than %d resources", ROWS_MAX)
             : settings->priority_and_fairness ? check_fairness(runtime_config, err)
                                               : 0;
    if (!rc)
        rc = check_entries(runtime_config, err);
    for (uint16_t i = 0; !rc && i < kl_nresources; i++)
        s->on[i] = kl_resources[i].enabled;
    if (!rc)
        rc = apply_entries(s, runtime_config, err);
    for (uint16_t i = 0; !rc && i < kl_nresources; i++) {
        s->on[i] = s->on[i] && kl_resources[i].type;
        for (size_t k = 0; k < KL_COUNT(gated); k++)
            if (!strcmp(kl_resources[i].plural, gated[k].plural))
                s->on[i] = s->on[i] && kl_gate_named_on(gates, gated[k].gate);
    }
    if (rc)
        kl_served_free(s);
    else
        *ret = s;
    return rc;
}

void kl_served_free(struct kl_served *s)
{
    free(s);
}

bool kl_is_served(const struct kl_apiserver *s, const struct kl_resource *r)
{
    bool built_in = r >= kl_resources && r < kl_resources + kl_nresources;
    return s->served && built_in ? s->served->on[r - kl_resources] : r->enabled;
}

bool kl_apiserver_serves(const struct kl_apiserver *s, const struct kl_resource *res)
{
    return kl_is_served(s, res);
}

static bool version_served(const struct kl_apiserver *s, const char *group, const char *version)
{
    for (uint16_t i = 0; i < kl_nresources; i++)
        if (s->served->on[i] && !strcmp(kl_resources[i].group, group) &&
            !strcmp(kl_resources[i].version, version))
            return true;
    return false;
}

const char *kl_served_version(const struct kl_apiserver *s, const struct kl_group *g, size_t i)
{
    if (!s->served) {
        for (size_t k = 0; g->enabled && g->enabled[k]; k++)
            if (!i--)
                return g->enabled[k];
        return NULL;
    }
    for (size_t k = 0; g->versions[k]; k++)
        if (version_served(s, g->name, g->versions[k]) && !i--)
            return g->versions[k];
    return NULL;
}

bool kl_serves_version(const struct kl_apiserver *s, struct kl_str group, struct kl_str version)
{
    for (uint16_t i = 0; i < kl_nresources; i++)
        if (kl_is_served(s, &kl_resources[i]) && kl_str_eqz(group, kl_resources[i].group) &&
            kl_str_eqz(version, kl_resources[i].version))
            return true;
    return false;
}

uint64_t kl_served_stamp(const struct kl_apiserver *s)
{
    uint64_t h = 14695981039346656037u; // FNV-1a
    for (uint16_t i = 0; s->served && i < kl_nresources; i++)
        h = (h ^ (uint64_t)s->served->on[i]) * 1099511628211u;
    return s->served ? h : 0;
}

void kl_served_fix(struct kl_req *r)
{
    struct kl_req_info *i = &r->info;
    const struct kl_served *s = r->srv->served;
    if (i->res && kl_is_served(r->srv, i->res))
        return;
    i->res = NULL;
    i->subres = NULL;
    for (uint16_t k = 0; i->is_resource && !i->res && k < kl_nresources; k++)
        if (s->on[k] && kl_str_eqz(i->plural, kl_resources[k].plural) &&
            kl_str_eqz(i->group, kl_resources[k].group) &&
            kl_str_eqz(i->version, kl_resources[k].version))
            i->res = &kl_resources[k];
    if (i->res && i->sub.n)
        i->subres = kl_resource_sub(i->res, i->sub);
}
