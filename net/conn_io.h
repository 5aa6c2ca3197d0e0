// SPDX-License-Identifier: Apache-2.0
// Between conn.c and conn_io.c.
#pragma once
#include "net/conn_int.h"

void kl_conn_break(struct kl_conn *c, int status, const struct kl_error *err);
void kl_conn_update_events(struct kl_conn *c);
void kl_conn_arm_timer(struct kl_conn *c);
void kl_conn_reread_soon(struct kl_conn *c);
void kl_conn_linger(struct kl_conn *c);

int kl_conn_attach_bio(struct kl_conn *c, struct kl_error *err);
void kl_conn_connected(struct kl_conn *c); // the socket became writable while connecting
void kl_conn_read(struct kl_conn *c);
void kl_conn_flush(struct kl_conn *c);
