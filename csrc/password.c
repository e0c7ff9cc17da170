/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "password.h"

#include <crypt.h>
#include <stdlib.h>
#include <string.h>

int xt_password_matches(const char *password, const char *hash)
{
	struct crypt_data *data = calloc(1, sizeof(*data)); /* 32 kB, too much for a thread's stack */
	const char *found = data ? crypt_r(password, hash, data) : NULL;
	size_t length = strlen(hash);
	unsigned char differences = 0;
	int result = -1;

	if (found && found[0] != '*' && strlen(found) == length) { /* crypt(3): '*' begins a failure token */
		for (size_t i = 0; i < length; i++)
			differences |= found[i] ^ hash[i];
		result = !differences;
	}
	if (data)
		explicit_bzero(data, sizeof(*data));
	free(data);
	return result;
}
