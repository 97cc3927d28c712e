/* A program with Python in it: does in turn what its arguments say, the last of which may be code to run. */
#include <Python.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    PyThreadState *first = NULL, *other = NULL;
    alarm(100);
    setvbuf(stdout, NULL, _IONBF, 0);
    for (int at = 1; at < argc; at++) {
        const char *what = argv[at];
        if (strcmp(what, "initialize") == 0) {
            Py_Initialize();
            first = PyThreadState_Get();
        } else if (strcmp(what, "finalize") == 0) {
            if (Py_FinalizeEx() != 0)
                return 3;
        } else if (strcmp(what, "new") == 0) {
            other = Py_NewInterpreter();
            if (other == NULL)
                return 4;
        } else if (strcmp(what, "first") == 0) {
            PyThreadState_Swap(first);
        } else if (strcmp(what, "other") == 0) {
            PyThreadState_Swap(other);
        } else if (strcmp(what, "end") == 0) {
            PyThreadState_Swap(other);
            Py_EndInterpreter(other);
            PyThreadState_Swap(first);
        } else if (strcmp(what, "sleep") == 0) {
            puts("sleeps");
            getchar();
        } else if (PyRun_SimpleString(what) != 0) {
            return 5;
        }
    }
    puts("reached its end");
    return 0;
}
