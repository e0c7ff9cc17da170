/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A library called as NCCL is, whose symbols cannot be found. */
static int hidden(void)
{
	return 0;
}

int (*what_is_exported)(void) = hidden;
