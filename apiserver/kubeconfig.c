// SPDX-License-Identifier: Apache-2.0
// The admin's kubeconfig, in the form K3s writes it.
#include "apiserver/pki_int.h"
#include "base/buf.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <unistd.h>

static void put_base64(struct kl_buf *b, struct kl_str s)
{
    size_t n = 4 * ((s.n + 2) / 3);
    if (kl_buf_reserve(b, n + 1))
        return;
    EVP_EncodeBlock((unsigned char *)b->p + b->n, (const unsigned char *)s.p, (int)s.n);
    b->n += n;
}

int kl_pki_write_kubeconfig(const struct kl_pki *p, const char *path, const char *host, int port,
                            struct kl_error *err)
{
    struct kl_buf b;
    bool v6 = strchr(host, ':') && host[0] != '[';
    kl_buf_init(&b, 1 << 20);
    kl_buf_puts(&b, KL_STR("apiVersion: v1\n"
                           "clusters:\n"
                           "- cluster:\n"
                           "    certificate-authority-data: "));
    put_base64(&b, p->server_ca);
    kl_buf_printf(&b, "\n    server: https://%s%s%s:%d\n", v6 ? "[" : "", host, v6 ? "]" : "",
                  port);
    kl_buf_puts(&b, KL_STR("  name: default\n"
                           "contexts:\n"
                           "- context:\n"
                           "    cluster: default\n"
                           "    user: default\n"
                           "  name: default\n"
                           "current-context: default\n"
                           "kind: Config\n"
                           "users:\n"
                           "- name: default\n"
                           "  user:\n"
                           "    client-certificate-data: "));
    put_base64(&b, p->admin_cert);
    kl_buf_puts(&b, KL_STR("\n    client-key-data: "));
    put_base64(&b, p->admin_key);
    kl_buf_putc(&b, '\n');
    int rc = b.err ? kl_error_set(err, b.err, "%s: out of memory", path) : 0;
    struct kl_arena a;
    struct kl_file_batch batch;
    kl_arena_init(&a, 1 << 20);
    kl_file_batch_init(&batch, &a);
    const char *slash = strrchr(path, '/');
    if (!rc && slash && slash != path) {
        struct kl_str dir = kl_arena_dup(&a, (struct kl_str){path, (size_t)(slash - path)});
        rc = dir.p ? kl_file_make_dirs(dir.p, 0755, err)
                   : kl_error_set(err, KL_ENOMEM, "%s: out of memory", path);
    }
    if (!rc && !(rc = kl_file_batch_add(&batch, path, kl_buf_str(&b), err)))
        rc = kl_file_batch_commit(&batch, err);
    kl_file_batch_drop(&batch);
    kl_arena_fini(&a);
    if (b.p)
        OPENSSL_cleanse(b.p, b.cap);
    kl_buf_fini(&b);
    return rc;
}
