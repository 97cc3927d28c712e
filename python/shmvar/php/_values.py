"""Values that PHP has and Python does not: objects, cases of enums, and objects with data of their own.

They only hold what PHP wrote. No class of the program is looked up by a name from PHP, and none of its code runs.
"""

from __future__ import annotations

from operator import index
from reprlib import recursive_repr
from typing import Any, NoReturn, SupportsIndex

# The extension makes these objects without a call: it sets the attributes and nothing else.


class PhpObject:
    """An object of PHP: the name of its class, and its properties.

    Names are those that PHP serializes: `name` for a public property, `\\0*\\0name` for a protected one,
    `\\0Class\\0name` for a private one of `Class`. `value["name"]` finds a property whatever its visibility.

    Two objects are equal if their classes and properties are. The same object twice in a value is the same object twice
    in PHP.
    """

    __slots__ = ("__weakref__", "class_name", "properties")
    __match_args__ = ("class_name", "properties")
    __hash__ = None  # type: ignore[assignment]  # it can be changed

    class_name: str
    properties: dict[str | int, Any]

    def __init__(self, class_name: str, properties: dict[Any, Any] | None = None) -> None:
        if not isinstance(class_name, str):
            raise TypeError(f"class_name must be a str, not {type(class_name).__name__}")
        if properties is not None and not isinstance(properties, dict):
            raise TypeError(f"properties must be a dict, not {type(properties).__name__}")
        self.class_name = class_name
        self.properties = {} if properties is None else properties

    def _key(self, name: str | int) -> str | int | None:
        """The key of the property with this name. A public one comes first, then a protected one."""
        properties = self.properties
        if name in properties:
            return name
        if isinstance(name, str) and not name.startswith("\0"):
            if (protected := f"\0*\0{name}") in properties:
                return protected
            if (private := f"\0{self.class_name}\0{name}") in properties:
                return private
            end = f"\0{name}"
            for key in properties:
                if isinstance(key, str) and key.startswith("\0") and key[key.find("\0", 1) :] == end:
                    return key
        return None

    def __getitem__(self, name: str | int) -> Any:
        key = self._key(name)
        if key is None:
            raise KeyError(name)
        return self.properties[key]

    def __setitem__(self, name: str | int, value: Any) -> None:
        """Sets the property with this name, or makes a public one."""
        key = self._key(name)
        self.properties[name if key is None else key] = value

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str | int) and self._key(name) is not None

    __iter__ = None  # it is no sequence, although it has `__getitem__`

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PhpObject):
            return NotImplemented
        return self is other or (self.class_name == other.class_name and self.properties == other.properties)

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        # The protocols 0 and 1 do not know slots. What is made for 2 they write as well.
        return super().__reduce_ex__(max(index(protocol), 2))

    @recursive_repr("PhpObject(...)")
    def __repr__(self) -> str:
        return f"PhpObject({self.class_name!r}, {self.properties!r})"


class _Frozen:
    """Cannot be changed."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} cannot be changed")


class PhpEnum(_Frozen):
    """A case of an enum of PHP: `Suit::H` is `PhpEnum("Suit", "H")`. PHP does not serialize the value of a case."""

    __slots__ = ("__weakref__", "case", "class_name")
    __match_args__ = ("class_name", "case")

    class_name: str
    case: str

    def __init__(self, class_name: str, case: str) -> None:
        for name, value in (("class_name", class_name), ("case", case)):
            if not isinstance(value, str):
                raise TypeError(f"{name} must be a str, not {type(value).__name__}")
            object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PhpEnum):
            return NotImplemented
        return (self.class_name, self.case) == (other.class_name, other.case)

    def __hash__(self) -> int:
        return hash((self.class_name, self.case))

    def __repr__(self) -> str:
        return f"PhpEnum({self.class_name!r}, {self.case!r})"

    def __reduce__(self) -> tuple[type[PhpEnum], tuple[str, str]]:
        return type(self), (self.class_name, self.case)


class PhpCustom(_Frozen):
    """An object of a class that serializes itself (PHP's old interface `Serializable`): bytes that only it can read.

    Such a class mostly calls `serialize` for what it holds. PHP then counts these values among those of the whole text,
    by whose numbers it finds an object again that is there twice. How many they are is known to the class alone, so
    behind a PhpCustom no number is certain: `dumps` refuses a second place for an object that stands behind one, and
    `loads` refuses a text that has such a place. What stands before the first PhpCustom, and the PhpCustom itself, may
    be there twice.

    `data` may have such numbers, too (`r:2;`, `R:3;`): they count from the beginning of the text that it came in. Such
    data go back to the same place, behind the same values, or mean something else.
    """

    __slots__ = ("__weakref__", "class_name", "data")
    __match_args__ = ("class_name", "data")

    class_name: str
    data: bytes

    def __init__(self, class_name: str, data: bytes) -> None:
        if not isinstance(class_name, str):
            raise TypeError(f"class_name must be a str, not {type(class_name).__name__}")
        if not isinstance(data, bytes):
            raise TypeError(f"data must be bytes, not {type(data).__name__}")
        object.__setattr__(self, "class_name", class_name)
        object.__setattr__(self, "data", data)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PhpCustom):
            return NotImplemented
        return (self.class_name, self.data) == (other.class_name, other.data)

    def __hash__(self) -> int:
        return hash((self.class_name, self.data))

    def __repr__(self) -> str:
        return f"PhpCustom({self.class_name!r}, {self.data!r})"

    def __reduce__(self) -> tuple[type[PhpCustom], tuple[str, bytes]]:
        return type(self), (self.class_name, self.data)


for _class in (PhpObject, PhpEnum, PhpCustom):
    _class.__module__ = "shmvar.php"  # pickles name it, and outlive the file that a class is in
