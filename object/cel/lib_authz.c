// SPDX-License-Identifier: Apache-2.0
// authorizer.group('').resource('pods').namespace('ns').check('create').allowed()
#include "object/cel/lib_int.h"
#include "object/names.h"

struct decision {
    struct kl_cel_decision d;
};

static struct kl_cel_val made(struct kl_arena *a, enum kl_cel_kind kind,
                              const struct kl_cel_authz *q)
{
    struct cel_authz *kept = KL_ARENA_NEW(a, struct cel_authz);
    if (!kept)
        return CEL_NO_MEMORY;
    if (q)
        kept->q = *q;
    return (struct kl_cel_val){.kind = (uint8_t)kind, .p = kept};
}

struct kl_cel_val kl_cel_authorizer(struct kl_arena *a)
{
    return made(a, KL_CEL_AUTHORIZER, NULL);
}

struct kl_cel_val kl_cel_resource_check(struct kl_arena *a, struct kl_str group,
                                        struct kl_str resource, struct kl_str subresource,
                                        struct kl_str ns, struct kl_str name)
{
    struct kl_cel_authz q = {.resource_request = true,
                             .group = group,
                             .resource = resource,
                             .subresource = subresource,
                             .ns = ns,
                             .name = name};
    return made(a, KL_CEL_RESOURCE_CHECK, &q);
}

static struct kl_cel_authz q_of(const struct kl_cel_val *args)
{
    return ((const struct cel_authz *)args[0].p)->q;
}

CEL_FN(cel_fn_az_path)
{
    struct kl_cel_authz q = q_of(args);
    q.path = cel_text(args[1]);
    if (!kl_str_trim(q.path).n)
        return CEL_ERR("path must not be empty");
    return made(cel_arena(r), KL_CEL_PATH_CHECK, &q);
}

CEL_FN(cel_fn_az_group)
{
    struct kl_cel_authz q = q_of(args);
    q.group = cel_text(args[1]);
    return made(cel_arena(r), KL_CEL_GROUP_CHECK, &q);
}

CEL_FN(cel_fn_az_service_account)
{
    struct kl_cel_authz q = q_of(args);
    q.as_service_account = true;
    q.sa_namespace = cel_text(args[1]);
    q.sa_name = cel_text(args[2]);
    if (kl_name_dns1123_subdomain(q.sa_name))
        return CEL_ERR("Invalid service account name");
    if (kl_name_dns1123_label(q.sa_namespace))
        return CEL_ERR("Invalid service account namespace");
    return made(cel_arena(r), KL_CEL_AUTHORIZER, &q);
}

CEL_FN(cel_fn_az_resource)
{
    struct kl_cel_authz q = q_of(args);
    q.resource_request = true;
    q.resource = cel_text(args[1]);
    if (!kl_str_trim(q.resource).n)
        return CEL_ERR("resource must not be empty");
    return made(cel_arena(r), KL_CEL_RESOURCE_CHECK, &q);
}

#define REFINE(function, field)                                                                    \
    CEL_FN(function)                                                                               \
    {                                                                                              \
        struct kl_cel_authz q = q_of(args);                                                        \
        q.field = cel_text(args[1]);                                                               \
        return made(cel_arena(r), KL_CEL_RESOURCE_CHECK, &q);                                      \
    }
REFINE(cel_fn_az_subresource, subresource)
REFINE(cel_fn_az_namespace, ns)
REFINE(cel_fn_az_name, name)
REFINE(cel_fn_az_field_selector, field_selector)
REFINE(cel_fn_az_label_selector, label_selector)

CEL_FN(cel_fn_az_check)
{
    const struct kl_cel_authorizer *authorizer = cel_run_authorizer(r);
    struct kl_cel_authz q = q_of(args);
    struct decision *d = KL_ARENA_NEW(cel_arena(r), struct decision);
    if (!d)
        return CEL_NO_MEMORY;
    q.verb = cel_text(args[1]);
    if (authorizer)
        authorizer->authorize(authorizer->ctx, cel_arena(r), &q, &d->d);
    return (struct kl_cel_val){.kind = KL_CEL_DECISION, .p = d};
}

static const struct kl_cel_decision *d_of(const struct kl_cel_val *args)
{
    return &((const struct decision *)args[0].p)->d;
}

static struct kl_cel_val text(struct kl_str s)
{
    return cel_str(s.p ? s : KL_STR(""));
}

CEL_FN(cel_fn_az_errored)
{
    return cel_ok(d_of(args)->errored);
}

CEL_FN(cel_fn_az_error)
{
    return text(d_of(args)->errored ? d_of(args)->error : KL_STR(""));
}

CEL_FN(cel_fn_az_allowed)
{
    return cel_ok(d_of(args)->allowed);
}

CEL_FN(cel_fn_az_reason)
{
    return text(d_of(args)->reason);
}
