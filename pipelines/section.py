"""What every section of a recipe is made of: the base class and the types of plain values."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["LISTED", "Name", "Paths", "Section", "Share", "as_list"]


class Section(BaseModel):
    """A mapping of the recipe: unknown keys are errors, values are not coerced."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


def as_list(value: Any) -> Any:
    """Return one name as a list of it."""
    return [value] if isinstance(value, str) else value


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Path_ = Annotated[str, Field(min_length=1, max_length=4000)]
#: Lets a list of one be written without brackets.
LISTED = BeforeValidator(as_list, json_schema_input_type=list[str] | str)
Paths = Annotated[list[Path_], LISTED, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
