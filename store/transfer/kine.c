// SPDX-License-Identifier: Apache-2.0
#include "store/transfer/kine.h"
#include "store/sql/endpoint.h"
#include "base/str.h"
#include <stdio.h>

int kl_kine_give_back(const char *url, struct kl_error *err)
{
    struct kl_str s = kl_str(url), scheme = KL_STR("sqlite://");
    char name[512], path[4096];
    if (!kl_str_starts(s, scheme))
        return kl_error_set(err, KL_EUNSUPPORTED,
                            "datastore %s: only a sqlite:// datastore is turned back in place; "
                            "migrate it to sqlite:// first",
                            kl_endpoint_redact(url, name, sizeof(name)));
    s = kl_str_from(s, scheme.n);
    ptrdiff_t query = kl_str_chr(s, '?');
    snprintf(path, sizeof(path), "%.*s", query >= 0 ? (int)query : (int)s.n, s.p);
    return kl_kine_give_back_sqlite(path, err);
}
