// SPDX-License-Identifier: GPL-3.0-only
// xtrace-catch as one static executable: CPython, the modules and the package's data are all in it
// (bundle.py makes them). It reads no Python file, no environment variable of Python's, no locale, and
// of the machine's name service configuration only what works without shared libraries.

#include <Python.h>
#include <netdb.h>
#include <nss.h>
#include <signal.h>
#include <unistd.h>

#include "bundle.h"

// Where the distributions keep the certificates of authorities; OpenSSL as built here looks in Debian's
// place only.
static const char *const CERTIFICATES[] = {
    "/etc/ssl/certs/ca-certificates.crt",		 // Debian, Arch, Gentoo, our image
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",				 // SUSE
    "/etc/ssl/cert.pem",				 // Alpine
};

// A static glibc takes the sources nsswitch.conf names from the machine's own shared libraries, and
// crashes in them when they are of another version: allow the two that are linked in.
static void use_linked_name_services(void)
{
	__nss_configure_lookup("hosts", "files dns");
	__nss_configure_lookup("networks", "files dns");
	static const char *const others[] = {"passwd", "group", "services", "protocols"};
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		__nss_configure_lookup(others[i], "files");
}

// The same holds for the modules an openssl.cnf may name. What the user has set stays.
static void configure_openssl(void)
{
	setenv("OPENSSL_CONF", "/dev/null", 0);
	if (getenv("SSL_CERT_FILE") || getenv("SSL_CERT_DIR"))
		return;
	for (size_t i = 0; i < sizeof(CERTIFICATES) / sizeof(*CERTIFICATES); i++) {
		if (access(CERTIFICATES[i], R_OK) == 0) {
			setenv("SSL_CERT_FILE", CERTIFICATES[i], 0);
			return;
		}
	}
}

static PyObject *bundle_read(PyObject *module, PyObject *path)
{
	const char *wanted = PyUnicode_AsUTF8(path);
	if (!wanted)
		return NULL;
	for (const struct bundle_data *data = bundle_data; data->path; data++)
		if (strcmp(data->path, wanted) == 0)
			return PyBytes_FromStringAndSize((const char *)data->bytes, data->size);
	return PyErr_Format(PyExc_FileNotFoundError, "%s: not in this executable", wanted);
}

static PyMethodDef bundle_methods[] = {
    {"read", bundle_read, METH_O, "read(path) -> bytes of a file of a package"},
    {NULL},
};

static struct PyModuleDef bundle_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_bundle",
    .m_methods = bundle_methods,
};

PyMODINIT_FUNC PyInit__bundle(void)
{
	return PyModule_Create(&bundle_module);
}

static PyStatus initialize(int argc, char **argv)
{
	PyPreConfig before;
	PyPreConfig_InitIsolatedConfig(&before);
	before.utf8_mode = 1; // and configure_locale stays 0: no locale, no converter of one is loaded
	PyStatus status = Py_PreInitialize(&before);
	if (PyStatus_Exception(status))
		return status;

	PyConfig config;
	PyConfig_InitIsolatedConfig(&config);
	config.install_signal_handlers = 1;
	config.site_import = 0;
	config.write_bytecode = 0;
	config.pathconfig_warnings = 0;
	config.module_search_paths_set = 1; // to nothing
	static const wchar_t *const none = L"";
	PyConfig_SetString(&config, &config.executable, none);
	PyConfig_SetString(&config, &config.prefix, none);
	PyConfig_SetString(&config, &config.exec_prefix, none);
	PyConfig_SetString(&config, &config.base_prefix, none);
	PyConfig_SetString(&config, &config.base_exec_prefix, none);
	PyConfig_SetString(&config, &config.stdlib_dir, none);
	status = PyConfig_SetBytesArgv(&config, argc, argv);
	if (!PyStatus_Exception(status))
		status = Py_InitializeFromConfig(&config);
	PyConfig_Clear(&config);
	return status;
}

// Until the tool handles them (xtrace/stop.py): one that arrives before is then a request like any other, to
// stop or, SIGHUP in a service, to reload.
static void block_signals(void)
{
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
}

int main(int argc, char **argv)
{
	block_signals();
	use_linked_name_services();
	configure_openssl();
	PyImport_FrozenModules = bundle_modules;
	PyStatus status = initialize(argc, argv);
	if (PyStatus_Exception(status))
		Py_ExitStatusException(status);
	// __main__ (start.py) ends by sys.exit(), which PyErr_Print() carries out
	if (PyImport_ImportFrozenModule("__main__") < 0)
		PyErr_Print();
	return Py_FinalizeEx() < 0;
}
