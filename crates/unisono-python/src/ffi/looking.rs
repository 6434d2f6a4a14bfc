//! Objects of the program, looked at while the interpreter's lock is held and none of its code runs.
//!
//! What is read is what the garbage collector and the interpreter's own types read: referents (`tp_traverse`), members
//! of types that are written in C, instance attributes past every property, lines of frames. No method that a program
//! could have written is called, no object is compared, hashed or shown, so that a look changes nothing and cannot
//! hang.
//!
//! A [`Seen`] is borrowed: while the collector is off and no Python code runs, nothing that is referred to is freed.
//! That is the promise of [`look`]: its closure does nothing with the interpreter but by the words of this file.

use std::{
    cell::{Cell, RefCell},
    ffi::{CStr, c_int, c_void},
    marker::PhantomData,
    ptr::{self, NonNull},
};

use pyo3::{ffi, prelude::*};

/// An object that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seen<'look>(NonNull<ffi::PyObject>, PhantomData<&'look ()>);

/// A look at objects, from [`look`].
pub struct Look {
    /// What was made for this look alone (a list, a text), and is let go of at its end.
    made: RefCell<Vec<NonNull<ffi::PyObject>>>,
    is_collecting: bool,
    /// Local variables are where they are looked for.
    has_layout: Cell<bool>,
}

/// Lets `f` look at objects: nothing is freed, and nothing of the program runs meanwhile.
pub fn look<T>(_py: Python<'_>, f: impl for<'look> FnOnce(&'look Look) -> T) -> T {
    // SAFETY: the interpreter's lock is held, as the token says. A collection would run finalizers of the program.
    let is_collecting = unsafe { ffi::PyGC_Disable() } != 0;
    let look = Look { made: RefCell::default(), is_collecting, has_layout: Cell::new(false) };
    f(&look)
}

impl Drop for Look {
    fn drop(&mut self) {
        for object in self.made.take() {
            // SAFETY: the look owns this reference.
            unsafe { ffi::Py_DECREF(object.as_ptr()) };
        }
        if self.is_collecting {
            // SAFETY: the lock is held, since a look does not outlive its closure.
            unsafe { ffi::PyGC_Enable() };
        }
    }
}

impl Look {
    /// An object that the caller holds for as long as the look lasts.
    pub fn at<'look>(&'look self, object: &Bound<'look, PyAny>) -> Seen<'look> {
        Seen(NonNull::new(object.as_ptr()).expect("an object has an address"), PhantomData)
    }

    /// What a module that was imported has under a name.
    pub fn of_module(&self, module: &CStr, name: &CStr) -> Option<Seen<'_>> {
        let module = self.modules()?.entry(module)?;
        module.module_dict()?.entry(name)
    }

    /// All modules that were imported: a `dict`.
    pub fn modules(&self) -> Option<Seen<'_>> {
        // SAFETY: the lock is held; the reference is borrowed from the interpreter.
        self.borrowed(unsafe { ffi::PyImport_GetModuleDict() })
    }

    /// A text to look for attributes by.
    pub fn name(&self, text: &CStr) -> Seen<'_> {
        // SAFETY: the text ends with a zero byte.
        let name = unsafe { ffi::PyUnicode_InternFromString(text.as_ptr()) };
        self.owned(name).expect("names are short, and memory for them is there")
    }

    /// What a getter of a type of C (`_PyType_Lookup`, see [`Seen::in_type`]) says of an object.
    pub fn member<'look>(&'look self, getter: Seen<'look>, of: Seen<'look>) -> Option<Seen<'look>> {
        let kind = getter.kind().0.as_ptr().cast::<ffi::PyTypeObject>();
        let is_of_c = kind == &raw mut ffi::PyGetSetDescr_Type || kind == &raw mut ffi::PyMemberDescr_Type;
        if !is_of_c {
            return None;
        }
        // SAFETY: the type of a getter has this slot, which checks that the object is of the type it was made for.
        self.owned(unsafe { (*kind).tp_descr_get?(getter.0.as_ptr(), of.0.as_ptr(), ptr::null_mut()) })
    }

    /// What a method of a type of C returns without arguments.
    pub fn called<'look>(&'look self, method: Seen<'look>, of: Seen<'look>) -> Option<Seen<'look>> {
        if method.kind().0.as_ptr().cast::<ffi::PyTypeObject>() != &raw mut ffi::PyMethodDescr_Type {
            return None;
        }
        // SAFETY: the lock is held, and a descriptor of a method takes the object as its argument, which it checks.
        self.owned(unsafe { ffi::PyObject_CallOneArg(method.0.as_ptr(), of.0.as_ptr()) })
    }

    /// An attribute of an instance: its own, or a plain value of its class. Neither properties nor `__getattr__` are
    /// asked.
    pub fn field<'look>(&'look self, of: Seen<'look>, name: Seen<'look>) -> Option<Seen<'look>> {
        if let Some(of_class) = of.kind().in_type(name) {
            if let Some(value) = self.member(of_class, of) {
                return Some(value);
            }
            // SAFETY: it looks at the type.
            if unsafe { (*ffi::Py_TYPE(of_class.0.as_ptr())).tp_descr_get.is_some() } {
                return None;
            }
        }
        // SAFETY: what the class has is no descriptor, so this reads the instance's attributes or gives that value.
        self.owned(unsafe { ffi::PyObject_GenericGetAttr(of.0.as_ptr(), name.0.as_ptr()) })
    }

    /// What a frame executes.
    pub fn code<'look>(&'look self, frame: Seen<'look>) -> Option<Seen<'look>> {
        // SAFETY: it is a frame.
        self.owned(unsafe { ffi::PyFrame_GetCode(frame.frame()?) }.cast())
    }

    /// The frame that called this one.
    pub fn caller<'look>(&'look self, frame: Seen<'look>) -> Option<Seen<'look>> {
        // SAFETY: it is a frame.
        self.owned(unsafe { ffi::PyFrame_GetBack(frame.frame()?) }.cast())
    }

    /// The globals of what a frame executes.
    pub fn globals<'look>(&'look self, frame: Seen<'look>) -> Option<Seen<'look>> {
        // SAFETY: it is a frame.
        self.owned(unsafe { ffi::PyFrame_GetGlobals(frame.frame()?) })
    }

    /// The first local variables of a frame that runs: `self` first, where its code is a method. Those that are bound.
    ///
    /// The interpreter has no words for it that leave a frame of 3.11 as it is, so its memory is read; `has_layout` is
    /// whether that has been tried (see [`Look::try_locals`]).
    pub fn locals<'look>(&'look self, frame: Seen<'look>) -> Vec<Option<Seen<'look>>> {
        let count = self
            .code(frame)
            .and_then(|code| self.member(code.kind().in_type(self.name(c"co_nlocals"))?, code)?.whole());
        let (Some(count), Some(object)) = (count.filter(|_| self.has_layout.get()), frame.frame()) else {
            return Vec::new();
        };
        // SAFETY: as in `raw_locals`; code has as many variables at the beginning of its frame.
        unsafe { self.raw_locals(object, usize::try_from(count).unwrap_or(0)) }
    }

    /// Tries whether local variables are where they are looked for: `frame` is that of a function whose first one is
    /// `first`.
    pub fn try_locals<'look>(&'look self, frame: Seen<'look>, first: Seen<'look>, version: (u8, u8)) {
        let is_known = matches!(version, (3, 11..=13));
        let Some(object) = frame.frame().filter(|_| is_known) else { return };
        // SAFETY: as in `raw_locals`; the function has a variable.
        let found = unsafe { self.raw_locals(object, 1) };
        self.has_layout.set(found.first().copied().flatten() == Some(first));
    }

    /// # Safety
    /// The frame is one of CPython 3.11 to 3.13, and has so many local variables. In these versions an object of a
    /// frame has the address of what it stands for at one place (`struct _frame`), and that its variables at another
    /// (`_PyInterpreterFrame`, Include/internal/pycore_frame.h); it is there for as long as the object.
    unsafe fn raw_locals<'look>(&'look self, frame: *mut ffi::PyFrameObject, count: usize) -> Vec<Option<Seen<'look>>> {
        const FRAME: usize = 24;
        const LOCALS: usize = 72;
        // SAFETY: as the function says.
        unsafe {
            let inner = *frame.byte_add(FRAME).cast::<*mut u8>();
            if inner.is_null() {
                return Vec::new();
            }
            let locals = inner.add(LOCALS).cast::<*mut ffi::PyObject>();
            (0..count).map(|number| self.borrowed(*locals.add(number))).collect()
        }
    }

    fn borrowed<'look>(&'look self, object: *mut ffi::PyObject) -> Option<Seen<'look>> {
        Some(Seen(NonNull::new(object)?, PhantomData))
    }

    /// Takes a new reference. What others refer to as well is let go of at once, so that counts stay as they were.
    fn owned(&self, object: *mut ffi::PyObject) -> Option<Seen<'_>> {
        let Some(object) = NonNull::new(object) else {
            // SAFETY: the lock is held.
            unsafe { ffi::PyErr_Clear() };
            return None;
        };
        // SAFETY: the reference is ours, and it is given back or kept until the end of the look.
        unsafe {
            if ffi::Py_REFCNT(object.as_ptr()) > 1 {
                ffi::Py_DECREF(object.as_ptr());
            } else {
                self.made.borrow_mut().push(object);
            }
        }
        Some(Seen(object, PhantomData))
    }
}

impl<'look> Seen<'look> {
    /// The address: what tells objects apart.
    pub fn address(self) -> usize {
        self.0.as_ptr().addr()
    }

    /// Its type.
    pub fn kind(self) -> Seen<'look> {
        // SAFETY: every object has a type, which lives as long as it.
        Seen(NonNull::new(unsafe { ffi::Py_TYPE(self.0.as_ptr()) }.cast()).expect("it has a type"), PhantomData)
    }

    /// Whether it is of a type, or of one that is derived from it.
    pub fn is_a(self, kind: Seen<'look>) -> bool {
        // SAFETY: the first is a type; the second is checked to be one.
        unsafe {
            ffi::PyType_Check(kind.0.as_ptr()) != 0
                && ffi::PyType_IsSubtype(ffi::Py_TYPE(self.0.as_ptr()), kind.0.as_ptr().cast()) != 0
        }
    }

    /// The name of its type, with the module where it was written in C.
    pub fn type_name(self) -> String {
        // SAFETY: an object has a type, and that a name that ends with a zero byte.
        let name = unsafe { CStr::from_ptr((*ffi::Py_TYPE(self.0.as_ptr())).tp_name) };
        name.to_string_lossy().into_owned()
    }

    /// Whether a type was made by code of Python's, or as such types are.
    pub fn is_of_program(self) -> bool {
        // SAFETY: it is checked to be a type, whose flags are read.
        unsafe {
            ffi::PyType_Check(self.0.as_ptr()) != 0
                && ffi::PyType_HasFeature(self.0.as_ptr().cast(), ffi::Py_TPFLAGS_HEAPTYPE) != 0
        }
    }

    /// Whether it lives for ever, so that its count says nothing.
    pub fn is_immortal(self) -> bool {
        // Python 3.12 and newer mark such objects by a count that no others reach.
        self.references() >= 1 << 29
    }

    /// Whether it is a function without variables of another one.
    pub fn has_no_closure(self) -> bool {
        // SAFETY: it is checked to be a function; the closure is borrowed from it, or null.
        unsafe { ffi::PyFunction_Check(self.0.as_ptr()) != 0 && ffi::PyFunction_GetClosure(self.0.as_ptr()).is_null() }
    }

    /// What a type or one of its bases has under a name, as it stands there.
    pub fn in_type(self, name: Seen<'look>) -> Option<Seen<'look>> {
        // SAFETY: it is checked to be a type; the reference is borrowed from the type.
        let found = unsafe {
            if ffi::PyType_Check(self.0.as_ptr()) == 0 {
                return None;
            }
            _PyType_Lookup(self.0.as_ptr().cast(), name.0.as_ptr())
        };
        NonNull::new(found).map(|found| Seen(found, PhantomData))
    }

    /// Adds everything that it holds a reference of, once for each reference.
    pub fn referents(self, to: &mut Vec<Seen<'look>>) {
        extern "C" fn visit(object: *mut ffi::PyObject, to: *mut c_void) -> c_int {
            if let Some(object) = NonNull::new(object) {
                // SAFETY: `to` is the list below, which outlives the traversal.
                unsafe { (*to.cast::<Vec<Seen<'_>>>()).push(Seen(object, PhantomData)) };
            }
            0
        }
        if !self.is_container() {
            return;
        }
        // SAFETY: an object that the collector knows has this slot; that neither frees nor calls anything.
        unsafe {
            if let Some(traverse) = (*ffi::Py_TYPE(self.0.as_ptr())).tp_traverse {
                traverse(self.0.as_ptr(), visit, ptr::from_mut(to).cast());
            }
        }
    }

    /// Whether it may refer to others, as the collector sees it.
    pub fn is_container(self) -> bool {
        // SAFETY: it looks at the flags of the type.
        unsafe { ffi::PyObject_IS_GC(self.0.as_ptr()) != 0 }
    }

    /// How many references of it there are.
    pub fn references(self) -> isize {
        // SAFETY: it reads the count.
        unsafe { ffi::Py_REFCNT(self.0.as_ptr()) }
    }

    /// Whether there is a weak reference of it.
    pub fn is_weakly_referenced(self) -> bool {
        // SAFETY: where the type says that there is a list of them, there is its first, or null.
        unsafe {
            let offset = (*ffi::Py_TYPE(self.0.as_ptr())).tp_weaklistoffset;
            offset != 0 && !(*self.0.as_ptr().byte_offset(offset).cast::<*mut ffi::PyObject>()).is_null()
        }
    }

    /// What a weak reference stands for, if it is one and that is still there.
    pub fn referenced(self) -> Option<Seen<'look>> {
        // SAFETY: it is checked to be a weak reference; the object is borrowed.
        #[allow(deprecated, reason = "its successor gives a reference away, which would have to be given back")]
        let object = unsafe {
            if ffi::PyWeakref_CheckRef(self.0.as_ptr()) == 0 {
                return None;
            }
            ffi::PyWeakref_GetObject(self.0.as_ptr())
        };
        NonNull::new(object).map(|object| Seen(object, PhantomData)).filter(|object| !object.is_none())
    }

    /// Whether it is `None`.
    pub fn is_none(self) -> bool {
        // SAFETY: `None` is always there.
        self.0.as_ptr() == unsafe { ffi::Py_None() }
    }

    /// The contents of `bytes`.
    pub fn bytes(self) -> Option<Vec<u8>> {
        // SAFETY: it is checked to be `bytes`, and is copied while it lives.
        unsafe {
            if ffi::PyBytes_CheckExact(self.0.as_ptr()) == 0 {
                return None;
            }
            let (start, length) = (ffi::PyBytes_AsString(self.0.as_ptr()), ffi::PyBytes_Size(self.0.as_ptr()));
            Some(std::slice::from_raw_parts(start.cast::<u8>(), length as usize).to_vec())
        }
    }

    /// The line of an instruction of a code object.
    pub fn line_of(self, instruction: usize) -> Option<u32> {
        // SAFETY: it is checked to be a code object, and any number may be asked for.
        let line = unsafe {
            if ffi::Py_TYPE(self.0.as_ptr()) != &raw mut ffi::PyCode_Type {
                return None;
            }
            ffi::PyCode_Addr2Line(self.0.as_ptr().cast(), c_int::try_from(instruction).ok()?)
        };
        u32::try_from(line).ok()
    }

    /// A whole number, if it is one and no object of a class of the program.
    pub fn whole(self) -> Option<i64> {
        // SAFETY: it is checked to be an `int`; one that is too large is an error, which is cleared.
        unsafe {
            if ffi::PyLong_CheckExact(self.0.as_ptr()) == 0 {
                return None;
            }
            let number = ffi::PyLong_AsLongLong(self.0.as_ptr());
            if number == -1 && !ffi::PyErr_Occurred().is_null() {
                ffi::PyErr_Clear();
                return None;
            }
            Some(number)
        }
    }

    /// A number, if it is a `float` or `int` and no object of a class of the program.
    pub fn number(self) -> Option<f64> {
        // SAFETY: it is checked to be a `float`.
        unsafe {
            if ffi::PyFloat_CheckExact(self.0.as_ptr()) != 0 {
                return Some(ffi::PyFloat_AsDouble(self.0.as_ptr()));
            }
        }
        self.whole().map(|number| number as f64)
    }

    /// A text, if it is one and no object of a class of the program.
    pub fn text(self) -> Option<String> {
        // SAFETY: it is checked to be a `str`; the bytes are copied while it lives; halves of pairs are an error.
        unsafe {
            if ffi::PyUnicode_CheckExact(self.0.as_ptr()) == 0 {
                return None;
            }
            let mut length = 0;
            let bytes = ffi::PyUnicode_AsUTF8AndSize(self.0.as_ptr(), &mut length);
            if bytes.is_null() {
                ffi::PyErr_Clear();
                return None;
            }
            let bytes = std::slice::from_raw_parts(bytes.cast::<u8>(), length as usize);
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
    }

    /// Whether it is `True`.
    pub fn is_true(self) -> bool {
        // SAFETY: `True` is always there.
        self.0.as_ptr() == unsafe { ffi::Py_True() }
    }

    /// Keys and values of a `dict`, in order.
    pub fn entries(self) -> Vec<(Seen<'look>, Seen<'look>)> {
        let mut entries = Vec::new();
        let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        // SAFETY: it is checked to be a `dict`, which nothing changes meanwhile; both are borrowed from it.
        unsafe {
            if ffi::PyDict_Check(self.0.as_ptr()) == 0 {
                return entries;
            }
            while ffi::PyDict_Next(self.0.as_ptr(), &mut position, &mut key, &mut value) != 0 {
                if let (Some(key), Some(value)) = (NonNull::new(key), NonNull::new(value)) {
                    entries.push((Seen(key, PhantomData), Seen(value, PhantomData)));
                }
            }
        }
        entries
    }

    /// What a `dict` has under a text.
    pub fn entry(self, key: &CStr) -> Option<Seen<'look>> {
        // SAFETY: it is checked to be a `dict`; the value is borrowed from it, and errors are swallowed there.
        let value = unsafe {
            if ffi::PyDict_Check(self.0.as_ptr()) == 0 {
                return None;
            }
            ffi::PyDict_GetItemString(self.0.as_ptr(), key.as_ptr())
        };
        NonNull::new(value).map(|value| Seen(value, PhantomData))
    }

    /// The names that a module has.
    pub fn module_dict(self) -> Option<Seen<'look>> {
        // SAFETY: it is checked to be a module; the reference is borrowed from it.
        let dict = unsafe {
            if ffi::PyModule_Check(self.0.as_ptr()) == 0 {
                return None;
            }
            ffi::PyModule_GetDict(self.0.as_ptr())
        };
        NonNull::new(dict).map(|dict| Seen(dict, PhantomData))
    }

    /// How many entries a `list`, `tuple`, `set` or `dict` has.
    pub fn length(self) -> Option<usize> {
        let object = self.0.as_ptr();
        // SAFETY: each is checked to be what its size is asked of.
        let length = unsafe {
            if ffi::PyDict_Check(object) != 0 {
                ffi::PyDict_Size(object)
            } else if ffi::PyAnySet_Check(object) != 0 {
                ffi::PySet_Size(object)
            } else if ffi::PyList_Check(object) != 0 {
                ffi::PyList_Size(object)
            } else if ffi::PyTuple_Check(object) != 0 {
                ffi::PyTuple_Size(object)
            } else {
                return None;
            }
        };
        usize::try_from(length).ok()
    }

    /// What a `tuple` or `list` has, in order (the collector sees it from the end).
    pub fn items(self) -> Vec<Seen<'look>> {
        let object = self.0.as_ptr();
        let is_tuple = self.is_tuple();
        if !is_tuple && !self.is_list() {
            return Vec::new();
        }
        let item = |index| {
            // SAFETY: it is checked to be what is asked, and to be so long; the items are borrowed from it.
            let item = unsafe {
                if is_tuple { ffi::PyTuple_GetItem(object, index) } else { ffi::PyList_GetItem(object, index) }
            };
            NonNull::new(item).map(|item| Seen(item, PhantomData))
        };
        (0..self.length().unwrap_or(0)).filter_map(|index| item(index as ffi::Py_ssize_t)).collect()
    }

    /// Whether it is a tuple.
    pub fn is_tuple(self) -> bool {
        // SAFETY: it looks at the flags of the type.
        unsafe { ffi::PyTuple_Check(self.0.as_ptr()) != 0 }
    }

    /// The code of a function that is written in Python.
    pub fn function_code(self) -> Option<Seen<'look>> {
        // SAFETY: it is checked to be a function; the code is borrowed from it.
        let code = unsafe {
            if ffi::PyFunction_Check(self.0.as_ptr()) == 0 {
                return None;
            }
            ffi::PyFunction_GetCode(self.0.as_ptr())
        };
        NonNull::new(code).map(|code| Seen(code, PhantomData))
    }

    /// Whether it is a function that is written in C and has one of these names.
    pub fn is_function_of_c(self, names: &[&CStr]) -> bool {
        // SAFETY: it is checked to be a function of C, whose description lives as long as its module.
        unsafe {
            if ffi::PyCFunction_Check(self.0.as_ptr()) == 0 {
                return false;
            }
            let description = (*self.0.as_ptr().cast::<ffi::PyCFunctionObject>()).m_ml;
            !description.is_null()
                && !(*description).ml_name.is_null()
                && names.contains(&CStr::from_ptr((*description).ml_name))
        }
    }

    /// The object and the function of a bound method.
    pub fn bound(self) -> Option<(Seen<'look>, Seen<'look>)> {
        // SAFETY: it is checked to be a bound method, which has both.
        let (object, function) = unsafe {
            if ffi::Py_TYPE(self.0.as_ptr()) != &raw mut PyMethod_Type {
                return None;
            }
            (PyMethod_Self(self.0.as_ptr()), PyMethod_Function(self.0.as_ptr()))
        };
        Some((Seen(NonNull::new(object)?, PhantomData), Seen(NonNull::new(function)?, PhantomData)))
    }

    /// What kind of an awaitable of the interpreter's it is.
    pub fn awaitable(self) -> Option<Awaitable> {
        let kind = self.kind().0.as_ptr().cast::<ffi::PyTypeObject>();
        if kind == &raw mut ffi::PyCoro_Type {
            Some(Awaitable::Coroutine)
        } else if kind == &raw mut ffi::PyGen_Type {
            Some(Awaitable::Generator)
        } else if kind == &raw mut ffi::PyAsyncGen_Type {
            Some(Awaitable::AsyncGenerator)
        } else {
            None
        }
    }

    /// Whether it is a type.
    pub fn is_type(self) -> bool {
        // SAFETY: it looks at the flags of the type.
        unsafe { ffi::PyType_Check(self.0.as_ptr()) != 0 }
    }

    /// Whether it is a module.
    pub fn is_module(self) -> bool {
        // SAFETY: it looks at the type.
        unsafe { ffi::PyModule_Check(self.0.as_ptr()) != 0 }
    }

    /// Whether it is a context (PEP 567).
    pub fn is_context(self) -> bool {
        // SAFETY: it looks at the type.
        unsafe { ffi::PyContext_CheckExact(self.0.as_ptr()) != 0 }
    }

    /// Whether it is a list.
    pub fn is_list(self) -> bool {
        // SAFETY: it looks at the flags of the type.
        unsafe { ffi::PyList_Check(self.0.as_ptr()) != 0 }
    }

    /// Whether it is a set of any kind.
    pub fn is_set(self) -> bool {
        // SAFETY: it looks at the type.
        unsafe { ffi::PyAnySet_Check(self.0.as_ptr()) != 0 }
    }

    /// Whether it is an exception.
    pub fn is_exception(self) -> bool {
        // SAFETY: it looks at the flags of the type.
        unsafe { ffi::PyExceptionInstance_Check(self.0.as_ptr()) != 0 }
    }

    /// The index of the instruction that a frame is at, in bytes.
    pub fn instruction(self) -> Option<i32> {
        // SAFETY: it is a frame.
        Some(unsafe { ffi::PyFrame_GetLasti(self.frame()?) })
    }

    /// The line that a frame is at.
    pub fn line(self) -> Option<u32> {
        // SAFETY: it is a frame.
        u32::try_from(unsafe { ffi::PyFrame_GetLineNumber(self.frame()?) }).ok()
    }

    fn frame(self) -> Option<*mut ffi::PyFrameObject> {
        // SAFETY: it looks at the type.
        (unsafe { ffi::PyFrame_Check(self.0.as_ptr()) } != 0).then(|| self.0.as_ptr().cast())
    }
}

/// What the interpreter's own awaitables are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaitable {
    Coroutine,
    Generator,
    AsyncGenerator,
}

unsafe extern "C" {
    /// Exported by every version that is supported (Include/cpython/object.h); the reference is borrowed.
    fn _PyType_Lookup(kind: *mut ffi::PyTypeObject, name: *mut ffi::PyObject) -> *mut ffi::PyObject;
    /// Include/cpython/classobject.h, as the next two; the references are borrowed.
    static mut PyMethod_Type: ffi::PyTypeObject;
    fn PyMethod_Self(method: *mut ffi::PyObject) -> *mut ffi::PyObject;
    fn PyMethod_Function(method: *mut ffi::PyObject) -> *mut ffi::PyObject;
}
