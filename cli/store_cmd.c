// SPDX-License-Identifier: Apache-2.0
#include "cli/store_cmd.h"
#include <stdio.h>
#include <sys/stat.h>

const char *kl_store_cmd_url(struct kl_arena *a, const char *given, const char *data_dir)
{
    return given && *given ? given
                           : kl_arena_printf(a, "sqlite://%s/server/db/state.db", data_dir).p;
}

const char *kl_snapshot_dir(struct kl_arena *a, const char *given, const char *data_dir)
{
    return given && *given ? given : kl_arena_printf(a, "%s/server/db/snapshots", data_dir).p;
}

bool kl_store_cmd_is_missing(const char *url)
{
    struct kl_str s = kl_str(url), scheme = KL_STR("sqlite://");
    struct stat st;
    char path[4096];
    if (!kl_str_starts(s, scheme))
        return false;
    s = kl_str_from(s, scheme.n);
    ptrdiff_t query = kl_str_chr(s, '?');
    snprintf(path, sizeof(path), "%.*s", query >= 0 ? (int)query : (int)s.n, s.p);
    return stat(path, &st) != 0 || st.st_size == 0;
}

int kl_store_cmd_open(const char *url, const struct kl_store_options *o, struct kl_store **ret_s,
                      struct kl_error *err)
{
    static const struct kl_store_options reading = {.read_only = true};
    char name[512];
    if (kl_store_cmd_is_missing(url))
        return kl_error_set(err, KL_ENOTFOUND, "datastore %s: there is none",
                            kl_endpoint_redact(url, name, sizeof(name)));
    return kl_store_open(url, o ? o : &reading, ret_s, err);
}

const char *kl_size_text(int64_t bytes, char ret[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    int u = 0;
    while (v >= 1024 && u < 4) {
        v /= 1024;
        u++;
    }
    snprintf(ret, 32, u ? "%.1f %s" : "%.0f %s", v, units[u]);
    return ret;
}
