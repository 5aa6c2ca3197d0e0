// SPDX-License-Identifier: Apache-2.0
// Servers of one process that talk by mailbox: the test cuts and joins connections, and loses
// messages, as it likes. Takes the place of store/peer in what is linked with --wrap for it.
#pragma once
#include "store/peer/peers.h"

enum { FP_NODES = 3 };
struct fp_net;

struct fp_net *fp_new(void); // all connected; the ids are 1 ... FP_NODES
void fp_free(struct fp_net *n);
struct kl_peers *fp_node(struct fp_net *n, int i);
void fp_cut(struct fp_net *n, int a, int b); // what is on the way is lost, both are told
void fp_join(struct fp_net *n, int a, int b);
void fp_lose(struct fp_net *n, int per_mille); // of the messages, without a word
