// SPDX-License-Identifier: Apache-2.0
#include "apiserver/auth/user.h"
#include <stdlib.h>

#define AUTHENTICATED KL_STR("system:authenticated")
#define UNAUTHENTICATED KL_STR("system:unauthenticated")
#define ANONYMOUS KL_STR("system:anonymous")
#define MASTERS KL_STR("system:masters")

static struct kl_str put_text(char **at, struct kl_str s)
{
    struct kl_str out = {*at, s.n};
    if (s.n)
        memcpy(*at, s.p, s.n);
    (*at)[s.n] = 0;
    *at += s.n + 1;
    return out;
}

struct kl_user *kl_user_new(struct kl_str name, struct kl_str uid, const struct kl_str *groups,
                            size_t ngroups, const struct kl_user_extra *extra, size_t nextra)
{
    bool anonymous = kl_str_eq(name, ANONYMOUS);
    struct kl_str added = anonymous ? UNAUTHENTICATED : AUTHENTICATED;
    bool has = false;
    size_t bytes = name.n + uid.n + 2, strs = ngroups + 1;
    for (size_t i = 0; i < ngroups; i++) {
        bytes += groups[i].n + 1;
        has |= kl_str_eq(groups[i], added) || kl_str_eq(groups[i], UNAUTHENTICATED);
    }
    bytes += added.n + 1;
    for (size_t i = 0; i < nextra; i++) {
        bytes += extra[i].key.n + 1;
        strs += extra[i].nvalues;
        for (size_t j = 0; j < extra[i].nvalues; j++)
            bytes += extra[i].values[j].n + 1;
    }
    struct kl_user *u =
        malloc(sizeof *u + nextra * sizeof *extra + strs * sizeof(struct kl_str) + bytes);
    if (!u)
        return NULL;
    memset(u, 0, sizeof *u);
    atomic_init(&u->refs, 1);
    struct kl_user_extra *ex = (struct kl_user_extra *)(u + 1);
    struct kl_str *ss = (struct kl_str *)(ex + nextra);
    char *at = (char *)(ss + strs);
    u->name = put_text(&at, name);
    u->uid = put_text(&at, uid);
    u->groups = ss;
    for (size_t i = 0; i < ngroups; i++) {
        ss[u->ngroups++] = put_text(&at, groups[i]);
        u->masters |= kl_str_eq(groups[i], MASTERS);
    }
    if (!has)
        ss[u->ngroups++] = put_text(&at, added);
    ss += u->ngroups;
    u->extra = ex;
    u->nextra = nextra;
    for (size_t i = 0; i < nextra; i++) {
        ex[i].key = put_text(&at, extra[i].key);
        ex[i].values = ss;
        ex[i].nvalues = extra[i].nvalues;
        for (size_t j = 0; j < extra[i].nvalues; j++)
            *ss++ = put_text(&at, extra[i].values[j]);
    }
    u->anonymous = anonymous;
    return u;
}

struct kl_user *kl_user_ref(struct kl_user *u)
{
    if (u)
        atomic_fetch_add_explicit(&u->refs, 1, memory_order_relaxed);
    return u;
}

void kl_user_unref(struct kl_user *u)
{
    if (u && atomic_fetch_sub_explicit(&u->refs, 1, memory_order_acq_rel) == 1) {
        kl_user_unref(u->by);
        free(u);
    }
}

bool kl_user_in_group(const struct kl_user *u, struct kl_str group)
{
    for (size_t i = 0; i < u->ngroups; i++)
        if (kl_str_eq(u->groups[i], group))
            return true;
    return false;
}
