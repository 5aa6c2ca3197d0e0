// SPDX-License-Identifier: Apache-2.0
#include "kubelet/oci_archive.h"
#include <openssl/evp.h>
#include <stdio.h>

struct blob {
    char digest[65]; // SHA-256, hex
    struct kl_buf b;
};

struct tar_header { // POSIX ustar
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
    char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct tar_header) == 512, "one block");

static int put_tar(struct kl_buf *out, const char *path, mode_t mode, char type, const char *link,
                   struct kl_str data)
{
    struct tar_header h = {.type = type};
    if (strlen(path) > sizeof(h.name) || (link && strlen(link) > sizeof(h.link)))
        return KL_ELIMIT;
    memcpy(h.name, path, strlen(path));
    if (link)
        memcpy(h.link, link, strlen(link));
    snprintf(h.mode, sizeof(h.mode), "%07o", (unsigned)mode);
    snprintf(h.uid, sizeof(h.uid), "%07o", 0);
    snprintf(h.gid, sizeof(h.gid), "%07o", 0);
    snprintf(h.size, sizeof(h.size), "%011zo", data.n);
    snprintf(h.mtime, sizeof(h.mtime), "%011o", 0);
    memcpy(h.magic, "ustar", 6);
    memcpy(h.version, "00", 2);
    memset(h.checksum, ' ', sizeof(h.checksum));
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof(h); i++)
        sum += ((const unsigned char *)&h)[i];
    snprintf(h.checksum, sizeof(h.checksum), "%06o", sum & 0777777);
    static const char zeros[512];
    kl_buf_append(out, &h, sizeof(h));
    kl_buf_puts(out, data);
    kl_buf_append(out, zeros, (512 - data.n % 512) % 512);
    return out->err;
}

static void end_tar(struct kl_buf *out)
{
    static const char zeros[1024];
    kl_buf_append(out, zeros, sizeof(zeros));
}

static int seal(struct blob *b)
{
    unsigned char md[32];
    unsigned n = sizeof(md);
    if (b->b.err || !EVP_Digest(b->b.p, b->b.n, md, &n, EVP_sha256(), NULL))
        return b->b.err ? b->b.err : KL_ENOMEM;
    for (size_t i = 0; i < sizeof(md); i++)
        snprintf(b->digest + 2 * i, 3, "%02x", md[i]);
    return 0;
}

static int put_blob(struct kl_buf *out, const struct blob *b)
{
    char path[100];
    snprintf(path, sizeof(path), "blobs/sha256/%s", b->digest);
    return put_tar(out, path, 0444, '0', NULL, kl_buf_str(&b->b));
}

static void put_list(struct kl_buf *out, const char *key, const char *const *list)
{
    if (!list)
        return;
    kl_buf_printf(out, "%s\"%s\":[", out->p[out->n - 1] == '{' ? "" : ",", key);
    for (size_t i = 0; list[i]; i++)
        kl_buf_printf(out, "%s\"%s\"", i ? "," : "", list[i]);
    kl_buf_putc(out, ']');
}

#if defined(__aarch64__)
#define ARCH "arm64"
#else
#define ARCH "amd64"
#endif

static int build(struct kl_buf *out, const struct kl_oci_image *im, struct blob *layer,
                 struct blob *config, struct blob *manifest, struct kl_buf *index)
{
    int r = 0;
    for (size_t i = 0; !r && i < im->nentries; i++) {
        const struct kl_oci_entry *e = &im->entries[i];
        bool dir = kl_str_ends(kl_str(e->path), KL_STR("/"));
        r = put_tar(&layer->b, e->path, e->mode,
                    e->link_target ? '2'
                    : dir          ? '5'
                                   : '0',
                    e->link_target, e->data);
    }
    end_tar(&layer->b);
    if (r || (r = seal(layer)))
        return r;
    kl_buf_printf(&config->b, "{\"architecture\":\"" ARCH "\",\"os\":\"linux\",\"config\":{");
    put_list(&config->b, "Env", im->env);
    put_list(&config->b, "Entrypoint", im->entrypoint);
    put_list(&config->b, "Cmd", im->cmd);
    kl_buf_printf(&config->b, "},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:%s\"]}}",
                  layer->digest);
    if ((r = seal(config)))
        return r;
    kl_buf_printf(&manifest->b,
                  "{\"schemaVersion\":2,\"mediaType\":"
                  "\"application/vnd.oci.image.manifest.v1+json\",\"config\":{\"mediaType\":"
                  "\"application/vnd.oci.image.config.v1+json\",\"digest\":\"sha256:%s\","
                  "\"size\":%zu},\"layers\":[{\"mediaType\":"
                  "\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"sha256:%s\","
                  "\"size\":%zu}]}",
                  config->digest, config->b.n, layer->digest, layer->b.n);
    if ((r = seal(manifest)))
        return r;
    kl_buf_printf(index,
                  "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":"
                  "\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:%s\","
                  "\"size\":%zu,\"annotations\":{\"io.containerd.image.name\":\"%s\","
                  "\"org.opencontainers.image.ref.name\":\"%s\"}}]}",
                  manifest->digest, manifest->b.n, im->name, im->name);
    put_tar(out, "oci-layout", 0444, '0', NULL, KL_STR("{\"imageLayoutVersion\":\"1.0.0\"}"));
    put_tar(out, "index.json", 0444, '0', NULL, kl_buf_str(index));
    put_blob(out, manifest);
    put_blob(out, config);
    put_blob(out, layer);
    end_tar(out);
    return index->err ? index->err : out->err;
}

int kl_oci_archive(struct kl_buf *out, const struct kl_oci_image *im, struct kl_error *err)
{
    struct blob layer, config, manifest;
    struct kl_buf index;
    kl_buf_init(&layer.b, out->max);
    kl_buf_init(&config.b, 65536);
    kl_buf_init(&manifest.b, 65536);
    kl_buf_init(&index, 65536);
    int r = build(out, im, &layer, &config, &manifest, &index);
    kl_buf_fini(&layer.b);
    kl_buf_fini(&config.b);
    kl_buf_fini(&manifest.b);
    kl_buf_fini(&index);
    return r ? kl_error_set(err, r, "making image %s: %s", im->name, kl_err_text(r)) : 0;
}
