// SPDX-License-Identifier: Apache-2.0
#include "cli/manifests.h"
#include "object/custom.h"
#include "object/yaml.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum {
    FILE_MAX_BYTES = 64 << 20,
    ARENA_MAX_BYTES = 512 << 20,
    OBJECTS_MAX = 65536,
    AT_ONCE = 32,
    AGAIN_MS = 5,
    AGAIN_MAX = 2000, // tries until a kind is served
};

enum phase { DEFINITIONS, NAMESPACES, BUILT_IN, CUSTOM, PHASES };

struct item {
    struct kl_call call;
    struct kl_manifests *m;
    const char *file;
    struct kl_str group, version, kind, ns, name, json;
    enum phase phase;
    int tries;
    struct item *next, *next_again;
};

struct kl_manifests {
    struct kl_arena arena;
    struct item *first, **end;
    size_t n;
    struct kl_client *client;
    void (*done)(void *arg, int code, const struct kl_error *err);
    void *arg;
    enum phase phase;
    struct item *at; // not started yet
    size_t running;
    uv_timer_t timer;
    struct item *again;  // waiting for their kind
    struct kl_call list; // of definitions, for the kinds of custom objects
    bool custom;         // there are objects of custom kinds
    bool only_crds;      // what is read now holds definitions; other documents are left out
    bool listing, listed;
    struct kl_custom_family **families; // kept to the end: calls use their rows
    size_t nfamilies;
    struct kl_error err;
};

// ---- reading

static int read_text(struct kl_manifests *m, const char *path, struct kl_str *ret,
                     struct kl_error *err)
{
    FILE *f = fopen(path, "re");
    struct stat st;
    if (!f || fstat(fileno(f), &st)) {
        int e = errno;
        if (f)
            fclose(f);
        return kl_error_errno(err, e, "%s", path);
    }
    size_t max = S_ISREG(st.st_mode) ? (size_t)st.st_size + 1 : (size_t)FILE_MAX_BYTES;
    char *p = max <= FILE_MAX_BYTES ? kl_arena_alloc(&m->arena, max + 1) : NULL;
    size_t n = p ? fread(p, 1, max, f) : 0;
    bool failed = ferror(f);
    fclose(f);
    if (!p || n > FILE_MAX_BYTES)
        return kl_error_set(err, KL_ETOOLARGE, "%s: over %d bytes", path, FILE_MAX_BYTES);
    if (failed)
        return kl_error_set(err, KL_EIO, "%s: cannot be read", path);
    p[n] = 0;
    *ret = (struct kl_str){p, n};
    return 0;
}

static struct kl_str member(const struct kl_value *v, const char *name)
{
    return kl_text(kl_map_value(v, kl_str(name)));
}

static int add_object(struct kl_manifests *m, const char *file, const struct kl_value *v,
                      struct kl_error *err)
{
    struct kl_str version = member(v, "apiVersion"), kind = member(v, "kind");
    const struct kl_value *meta = kl_map_value(v, KL_STR("metadata"));
    int rc = 0;
    // A folder of definitions has a kustomization.yaml or values of a patch beside them.
    if (m->only_crds && !kl_str_ends(kind, KL_STR("List")) &&
        !kl_str_eqz(kind, "CustomResourceDefinition"))
        return 0;
    if (!version.n || !kind.n)
        return kl_error_set(err, KL_EINVALID, "%s: an object has no apiVersion or no kind", file);
    if (kl_str_ends(kind, KL_STR("List"))) {
        const struct kl_value *items = kl_map_value(v, KL_STR("items"));
        for (size_t i = 0; items && i < kl_len(items) && !rc; i++)
            rc = add_object(m, file, kl_at(items, i), err);
        if (items)
            return rc;
    }
    struct item *it = m->n < OBJECTS_MAX ? KL_ARENA_NEW(&m->arena, struct item) : NULL;
    struct kl_buf b;
    if (!it)
        return kl_error_set(err, KL_ELIMIT, "%s: more than %d objects, or no memory", file,
                            OBJECTS_MAX);
    kl_buf_init(&b, FILE_MAX_BYTES);
    kl_json_write(&b, v);
    it->json = b.err ? (struct kl_str){0} : kl_arena_dup(&m->arena, kl_buf_str(&b));
    kl_buf_fini(&b);
    ptrdiff_t slash = kl_str_chr(version, '/');
    it->m = m;
    it->file = file;
    it->group = slash < 0 ? KL_STR("") : (struct kl_str){version.p, (size_t)slash};
    it->version = slash < 0 ? version : kl_str_from(version, (size_t)slash + 1);
    it->kind = kind;
    it->ns = member(meta, "namespace");
    it->name = member(meta, "name");
    it->phase = kl_str_eqz(kind, "CustomResourceDefinition")        ? DEFINITIONS
                : kl_str_eqz(kind, "Namespace") && !it->group.n     ? NAMESPACES
                : kl_resource_by_kind(it->group, it->version, kind) ? BUILT_IN
                                                                    : CUSTOM;
    m->custom = m->custom || it->phase == CUSTOM;
    if (!it->json.p)
        return kl_error_set(err, KL_ENOMEM, "%s: out of memory", file);
    if (!it->name.n)
        return kl_error_set(err, KL_EINVALID, "%s: an object of kind %.*s has no name", file,
                            KL_PRI(kind));
    *m->end = it;
    m->end = &it->next;
    m->n++;
    return 0;
}

static int add_file(struct kl_manifests *m, const char *path, struct kl_error *err)
{
    struct kl_str text, document;
    struct kl_value v;
    int rc = read_text(m, path, &text, err);
    while (!rc && kl_yaml_next_document(&text, &document)) {
        if (!kl_str_trim(document).n)
            continue;
        if ((rc = kl_yaml_parse(&m->arena, document, NULL, &v, err)))
            return kl_error_wrap(err, "%s", path);
        if (!kl_is(&v, KL_NULL)) // comments only
            rc = add_object(m, path, &v, err);
    }
    return rc;
}

static int is_manifest(const struct dirent *d)
{
    struct kl_str n = kl_str(d->d_name);
    return kl_str_ends(n, KL_STR(".yaml")) || kl_str_ends(n, KL_STR(".yml")) ||
           kl_str_ends(n, KL_STR(".json"));
}

static int add_path(struct kl_manifests *m, const char *path, struct kl_error *err)
{
    struct stat st;
    struct dirent **names = NULL;
    int rc = 0, n;
    if (stat(path, &st))
        return kl_error_errno(err, errno, "%s", path);
    if (!S_ISDIR(st.st_mode))
        return add_file(m, path, err);
    if ((n = scandir(path, &names, is_manifest, alphasort)) < 0)
        return kl_error_errno(err, errno, "%s", path);
    for (int i = 0; i < n; i++) {
        struct kl_str p = kl_arena_printf(&m->arena, "%s/%s", path, names[i]->d_name);
        if (!rc)
            rc = p.p ? add_file(m, p.p, err) : kl_error_set(err, KL_ENOMEM, "out of memory");
        free(names[i]);
    }
    free(names);
    return rc;
}

int kl_manifests_read(const char *const *crds, const char *const *paths, struct kl_manifests **ret,
                      struct kl_error *err)
{
    struct kl_manifests *m = calloc(1, sizeof *m);
    int rc = 0;
    if (!m)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    kl_arena_init(&m->arena, ARENA_MAX_BYTES);
    m->end = &m->first;
    m->only_crds = true;
    for (; crds && *crds && !rc; crds++)
        rc = add_path(m, *crds, err);
    m->only_crds = false;
    for (; paths && *paths && !rc; paths++)
        rc = add_path(m, *paths, err);
    if (rc)
        kl_manifests_free(m);
    else
        *ret = m;
    return rc;
}

size_t kl_manifests_count(const struct kl_manifests *m)
{
    return m->n;
}

void kl_manifests_free(struct kl_manifests *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->nfamilies; i++)
        kl_custom_family_unref(m->families[i]);
    free(m->families);
    kl_arena_fini(&m->arena);
    free(m);
}

// ---- kinds of custom objects

static void go_on(struct kl_manifests *m);

static bool knows(const struct kl_manifests *m, struct kl_str name)
{
    for (size_t i = 0; i < m->nfamilies; i++)
        if (kl_str_eqz(name, m->families[i]->name))
            return true;
    return false;
}

static void add_family(struct kl_manifests *m, const struct kl_object *crd)
{
    struct kl_error ignored; // no names are accepted yet: it is looked at again
    struct kl_custom_family **more;
    if (knows(m, kl_text(kl_path(&crd->root, KL_F_metadata, KL_F_name))) ||
        !(more = realloc(m->families, (m->nfamilies + 1) * sizeof *more)))
        return;
    m->families = more;
    if (kl_len(kl_path(&crd->root, KL_F_status, KL_F_acceptedNames)) &&
        !kl_custom_family_new(&crd->root, false, &m->families[m->nfamilies], &ignored))
        m->nfamilies++;
}

static void on_listed(struct kl_call *call)
{
    struct kl_manifests *m = call->arg;
    for (size_t i = 0; !call->err.code && i < call->n_items; i++)
        add_family(m, call->items[i]);
    if (call->err.code && !m->err.code)
        m->err = call->err;
    kl_call_fini(call);
    m->listing = false;
    m->listed = true;
    go_on(m);
}

static void list_kinds(struct kl_manifests *m)
{
    m->listing = true;
    m->list = (struct kl_call){.verb = KL_VERB_LIST,
                               .res = kl_res(KL_RES_apiextensions_v1_customresourcedefinitions),
                               .grace_seconds = -1,
                               .done_cb = on_listed,
                               .arg = m};
    kl_client_start(m->client, &m->list);
}

static const struct kl_resource *find_kind(const struct kl_manifests *m, const struct item *it)
{
    if (it->phase != CUSTOM)
        return kl_resource_by_kind(it->group, it->version, it->kind);
    for (size_t i = 0; i < m->nfamilies; i++) {
        const struct kl_resource *r = kl_custom_row(m->families[i], it->version);
        if (r && kl_str_eqz(it->group, r->group) && kl_str_eqz(it->kind, r->kind))
            return r;
    }
    return NULL;
}

// ---- applying

static void on_closed(uv_handle_t *h)
{
    struct kl_manifests *m = h->data;
    m->done(m->arg, m->err.code, &m->err);
}

static void fail_item(struct item *it, const struct kl_error *why)
{
    struct kl_manifests *m = it->m;
    if (!m->err.code)
        kl_error_set(&m->err, why->code, "%s: %.*s %.*s: %s", it->file, KL_PRI(it->kind),
                     KL_PRI(it->name), why->msg);
}

static void wait_for_kind(struct item *it)
{
    it->next_again = it->m->again;
    it->m->again = it;
}

static void on_applied(struct kl_call *call)
{
    struct item *it = call->arg;
    struct kl_manifests *m = it->m;
    struct kl_error err = call->err;
    bool again = it->phase == CUSTOM && err.code == KL_ENOTFOUND && it->tries++ < AGAIN_MAX;
    kl_call_fini(call);
    m->running--;
    if (again)
        wait_for_kind(it);
    else if (err.code)
        fail_item(it, &err);
    go_on(m);
}

static void start_item(struct item *it)
{
    struct kl_manifests *m = it->m;
    const struct kl_resource *res = find_kind(m, it);
    struct kl_error err;
    if (!res && it->tries++ < AGAIN_MAX) {
        wait_for_kind(it);
        return;
    }
    if (!res) {
        kl_error_set(&err, KL_ENOTFOUND, "no such kind in %.*s%s%.*s", KL_PRI(it->group),
                     it->group.n ? "/" : "", KL_PRI(it->version));
        fail_item(it, &err);
        return;
    }
    it->call = (struct kl_call){.verb = KL_VERB_PATCH,
                                .res = res,
                                .name = it->name,
                                .patch = it->json,
                                .patch_type = KL_PATCH_APPLY,
                                .grace_seconds = -1,
                                .done_cb = on_applied,
                                .arg = it};
    if (res->namespaced)
        it->call.ns = it->ns.n ? it->ns : KL_STR("default");
    m->running++;
    kl_client_start(m->client, &it->call);
}

static void on_again(uv_timer_t *t)
{
    struct kl_manifests *m = t->data;
    struct item *it = m->again, *next;
    if (!m->listed) { // their kinds first
        list_kinds(m);
        return;
    }
    m->listed = false;
    m->again = NULL;
    for (; it; it = next) {
        next = it->next_again;
        start_item(it);
    }
    go_on(m);
}

static void go_on(struct kl_manifests *m)
{
    if (m->listing)
        return;
    while (!m->err.code && m->running < AT_ONCE && m->phase < PHASES) {
        struct item *it = m->at;
        if (it) {
            m->at = it->next;
            if (it->phase == m->phase)
                start_item(it);
        } else if (m->running || m->again) {
            break; // the next phase begins when this one is over
        } else {
            m->phase++;
            m->at = m->first;
            if (m->phase == CUSTOM && m->custom) {
                list_kinds(m);
                return;
            }
        }
    }
    if (m->running)
        return;
    if (m->again && !m->err.code)
        uv_timer_start(&m->timer, on_again, m->listed ? 0 : AGAIN_MS, 0);
    else
        uv_close((uv_handle_t *)&m->timer, on_closed);
}

void kl_manifests_apply(struct kl_manifests *m, struct kl_client *client,
                        void (*done)(void *arg, int code, const struct kl_error *err), void *arg)
{
    m->client = client;
    m->done = done;
    m->arg = arg;
    m->at = m->first;
    uv_timer_init(kl_loop_uv(client->loop), &m->timer);
    m->timer.data = m;
    go_on(m);
}
