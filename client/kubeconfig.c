// SPDX-License-Identifier: Apache-2.0
// Reads what a client needs from a kubeconfig (client-go's clientcmd v1.Config).
#include "base/buf.h"
#include "client/https.h"
#include "object/yaml.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_MAX_BYTES ((size_t)4 << 20)

static int read_file(struct kl_arena *a, const char *path, struct kl_str *ret, struct kl_error *err)
{
    FILE *f = fopen(path, "re");
    struct kl_buf text;
    char piece[8192];
    size_t n;
    if (!f)
        return kl_error_errno(err, errno, "%s", path);
    kl_buf_init(&text, FILE_MAX_BYTES);
    while ((n = fread(piece, 1, sizeof(piece), f)) > 0 && kl_buf_append(&text, piece, n) == 0)
        ;
    bool failed = ferror(f) || text.err == KL_ELIMIT;
    struct kl_str copy = text.err ? (struct kl_str){0} : kl_arena_dup(a, kl_buf_str(&text));
    kl_buf_fini(&text);
    fclose(f);
    if (failed)
        return kl_error_set(err, KL_EIO, "%s: cannot be read", path);
    if (!copy.p)
        return kl_error_set(err, KL_ENOMEM, "%s: out of memory", path);
    *ret = copy;
    return 0;
}

static int decode_base64(struct kl_arena *a, struct kl_str in, struct kl_str *ret)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t *out = kl_arena_alloc(a, in.n / 4 * 3 + 3);
    uint32_t bits = 0;
    int nbits = 0;
    size_t n = 0;
    if (!out)
        return KL_ENOMEM;
    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i];
        if (c == '=' || c == '\n' || c == '\r')
            continue;
        const char *at = c ? strchr(alphabet, c) : NULL;
        if (!at)
            return KL_EINVALID;
        bits = bits << 6 | (uint32_t)(at - alphabet);
        nbits += 6;
        if (nbits >= 8) {
            nbits -= 8;
            out[n++] = (uint8_t)(bits >> nbits);
        }
    }
    *ret = (struct kl_str){(char *)out, n};
    return 0;
}

struct config {
    struct kl_arena arena;
    const char *path;
    struct kl_value root;
};

static struct kl_str text_of(const struct kl_value *map, const char *key)
{
    return kl_text(kl_map_value(map, kl_str(key)));
}

// The entry of a named list: contexts, clusters, users.
static const struct kl_value *find(const struct config *c, const char *list, const char *what,
                                   struct kl_str name)
{
    for (KL_EACH(entry, kl_map_value(&c->root, kl_str(list)))) {
        if (kl_str_eq(text_of(entry, "name"), name))
            return kl_map_value(entry, kl_str(what));
    }
    return NULL;
}

// DATA_KEY inline (NULL: there is none), else the file that FILE_KEY names, relative to the
// kubeconfig.
static int read_pem(struct config *c, const struct kl_value *map, const char *data_key,
                    const char *file_key, struct kl_str *ret, struct kl_error *err)
{
    struct kl_str file = text_of(map, file_key);
    struct kl_str data = data_key ? text_of(map, data_key) : (struct kl_str){0};
    *ret = (struct kl_str){"", 0};
    if (data.n) {
        int rc = decode_base64(&c->arena, data, ret);
        return rc < 0 ? kl_error_set(err, KL_EINVALID, "%s: bad %s", c->path, data_key) : 0;
    }
    if (!file.n)
        return 0;
    const char *slash = strrchr(c->path, '/');
    struct kl_str full = file.p[0] == '/' || !slash
                             ? kl_arena_dup(&c->arena, file)
                             : kl_arena_printf(&c->arena, "%.*s/%.*s", (int)(slash - c->path),
                                               c->path, KL_PRI(file));
    return full.p ? read_file(&c->arena, full.p, ret, err)
                  : kl_error_set(err, KL_ENOMEM, "out of memory");
}

static int connect_as(struct config *c, struct kl_loop *loop, const char *context,
                      const char *user_agent, struct kl_client **ret, struct kl_error *err)
{
    struct kl_str name = context ? kl_str(context) : text_of(&c->root, "current-context");
    const struct kl_value *ctx = find(c, "contexts", "context", name);
    if (!ctx)
        return kl_error_set(err, KL_ENOTFOUND, "%s: no context \"%.*s\"", c->path, KL_PRI(name));
    const struct kl_value *cluster = find(c, "clusters", "cluster", text_of(ctx, "cluster"));
    const struct kl_value *user = find(c, "users", "user", text_of(ctx, "user"));
    if (!cluster)
        return kl_error_set(err, KL_ENOTFOUND, "%s: no cluster of context \"%.*s\"", c->path,
                            KL_PRI(name));
    if (kl_map_value(user, KL_STR("exec")) || kl_map_value(user, KL_STR("auth-provider")))
        return kl_error_set(err, KL_EUNSUPPORTED, "%s: exec and auth-provider are not supported",
                            c->path);
    struct kl_https_options o = {
        .loop = loop,
        .server = text_of(cluster, "server"),
        .insecure_skip_verify =
            kl_is_true(kl_map_value(cluster, KL_STR("insecure-skip-tls-verify"))),
        .bearer_token = text_of(user, "token"),
        .user_agent = user_agent,
    };
    struct kl_str server_name = text_of(cluster, "tls-server-name"), token;
    if (server_name.n)
        o.server_name = kl_arena_dup(&c->arena, server_name).p;
    int rc =
        read_pem(c, cluster, "certificate-authority-data", "certificate-authority", &o.ca, err);
    rc = rc < 0 ? rc
                : read_pem(c, user, "client-certificate-data", "client-certificate", &o.cert, err);
    rc = rc < 0 ? rc : read_pem(c, user, "client-key-data", "client-key", &o.key, err);
    rc = rc < 0 ? rc : read_pem(c, user, NULL, "tokenFile", &token, err);
    if (rc == 0 && !o.bearer_token.n)
        o.bearer_token = kl_str_trim(token);
    return rc < 0 ? rc : kl_https_client_new(&o, ret, err);
}

int kl_client_from_kubeconfig(struct kl_loop *loop, const char *path, const char *context,
                              const char *user_agent, struct kl_client **ret, struct kl_error *err)
{
    struct config c = {.path = path};
    struct kl_str text;
    kl_arena_init(&c.arena, (size_t)64 << 20);
    int rc = read_file(&c.arena, path, &text, err);
    if (rc == 0) {
        rc = kl_yaml_parse(&c.arena, text, NULL, &c.root, err);
        if (rc < 0)
            kl_error_wrap(err, "%s", path);
    }
    if (rc == 0)
        rc = connect_as(&c, loop, context, user_agent, ret, err);
    kl_arena_fini(&c.arena);
    return rc;
}
