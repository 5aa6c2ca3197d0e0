// SPDX-License-Identifier: Apache-2.0
// The Auth service of a server whose authentication is not enabled (server/auth/store.go): TLS with
// client certificates is what guards it.
#include "store/etcd/etcd_int.h"

static void not_enabled(struct kl_grpc_rpc *c, struct kl_str msg)
{
    kl_etcd_fail_grpc(c, KL_GRPC_FAILED_PRECONDITION, "etcdserver: authentication is not enabled");
}

static void enable(struct kl_grpc_rpc *c, struct kl_str msg)
{
    kl_etcd_fail_grpc(c, KL_GRPC_FAILED_PRECONDITION, "etcdserver: root user does not exist");
}

static void user_not_found(struct kl_grpc_rpc *c, struct kl_str msg)
{
    kl_etcd_fail_grpc(c, KL_GRPC_FAILED_PRECONDITION, "etcdserver: user name not found");
}

static void role_not_found(struct kl_grpc_rpc *c, struct kl_str msg)
{
    kl_etcd_fail_grpc(c, KL_GRPC_FAILED_PRECONDITION, "etcdserver: role name not found");
}

static void status(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    if (!l)
        return;
    struct kl_etcd_response_header h = kl_etcd_header(l->etcd, kl_etcd_rev(l));
    kl_etcd_reply(c, &kl_etcd_auth_status_response_desc,
                  &(struct kl_etcd_auth_status_response){.header = &h, .auth_revision = 1});
}

// Disabling what is disabled, and lists of nothing.
static void nothing(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    if (!l)
        return;
    struct kl_etcd_response_header h = kl_etcd_header(l->etcd, kl_etcd_rev(l));
    kl_etcd_reply(c, &kl_etcd_auth_disable_response_desc,
                  &(struct kl_etcd_auth_disable_response){.header = &h});
}

const struct kl_grpc_method kl_etcd_auth_methods[] = {
    {.path = "/etcdserverpb.Auth/AuthEnable", .message = enable},
    {.path = "/etcdserverpb.Auth/AuthDisable", .message = nothing},
    {.path = "/etcdserverpb.Auth/AuthStatus", .message = status},
    {.path = "/etcdserverpb.Auth/Authenticate", .message = not_enabled},
    {.path = "/etcdserverpb.Auth/UserAdd", .message = not_enabled},
    {.path = "/etcdserverpb.Auth/UserGet", .message = user_not_found},
    {.path = "/etcdserverpb.Auth/UserList", .message = nothing},
    {.path = "/etcdserverpb.Auth/UserDelete", .message = user_not_found},
    {.path = "/etcdserverpb.Auth/UserChangePassword", .message = user_not_found},
    {.path = "/etcdserverpb.Auth/UserGrantRole", .message = user_not_found},
    {.path = "/etcdserverpb.Auth/UserRevokeRole", .message = user_not_found},
    {.path = "/etcdserverpb.Auth/RoleAdd", .message = not_enabled},
    {.path = "/etcdserverpb.Auth/RoleGet", .message = role_not_found},
    {.path = "/etcdserverpb.Auth/RoleList", .message = nothing},
    {.path = "/etcdserverpb.Auth/RoleDelete", .message = role_not_found},
    {.path = "/etcdserverpb.Auth/RoleGrantPermission", .message = role_not_found},
    {.path = "/etcdserverpb.Auth/RoleRevokePermission", .message = role_not_found},
    {.path = NULL},
};
