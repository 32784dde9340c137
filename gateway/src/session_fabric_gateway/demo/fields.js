// @ts-check
// The fields of a form that an agent asks for, from its JSON Schema; what is more than flat fields is written as JSON.
import { tag } from "./markdown.js";

/** @typedef {{type?: string, title?: string, description?: string, enum?: unknown[], default?: unknown, minimum?: number, maximum?: number, maxLength?: number}} Field */

const FLAT = ["string", "number", "integer", "boolean"];

/**
 * @param {unknown} schema null: one text
 * @param {string} label of the one field, if there is only one
 * @returns {{element: HTMLElement, value: () => unknown}}
 */
export function formFields(schema, label) {
  if (schema === null || schema === undefined) return oneText(label);
  const { properties, required } = /** @type {{properties?: Record<string, Field>, required?: string[]}} */ (schema);
  const names = Object.entries(properties ?? {});
  if (names.length === 0 || !names.every(([, field]) => field.enum !== undefined || FLAT.includes(field.type ?? ""))) return oneJson(label);
  const inputs = names.map(([name, field]) => ({ name, field, ...input(field, required?.includes(name) === true) }));
  const element = tag("div", inputs.map(({ name, field, control }) => {
    const caption = tag("span", [field.title ?? name]);
    const line = tag("label", field.type === "boolean" ? [control, caption] : [caption, control]);
    if (field.description !== undefined) line.title = field.description;
    return line;
  }));
  element.className = "fields";
  return {
    element,
    value: () => Object.fromEntries(inputs.map(({ name, value }) => [name, value()]).filter(([, value]) => value !== undefined)),
  };
}

/** @param {string} label */
function oneText(label) {
  const element = /** @type {HTMLTextAreaElement} */ (tag("textarea"));
  element.rows = 2;
  element.required = true;
  element.setAttribute("aria-label", label);
  return { element, value: () => element.value.trim() };
}

/** @param {string} label */
function oneJson(label) {
  const { element } = oneText(`${label} (JSON)`);
  const area = /** @type {HTMLTextAreaElement} */ (element);
  area.value = "{}";
  area.className = "json";
  const check = () => {
    try {
      area.setCustomValidity("");
      return JSON.parse(area.value);
    } catch {
      area.setCustomValidity("This is not JSON.");
      return null;
    }
  };
  area.addEventListener("input", check);
  return { element: area, value: check };
}

/**
 * @param {Field} field @param {boolean} required
 * @returns {{control: HTMLElement, value: () => unknown}}
 */
function input(field, required) {
  if (field.enum !== undefined) {
    const choices = field.enum;
    const select = /** @type {HTMLSelectElement} */ (tag("select", choices.map((choice) => tag("option", [String(choice)]))));
    select.selectedIndex = Math.max(0, choices.indexOf(field.default));
    return { control: select, value: () => choices[select.selectedIndex] };
  }
  const control = /** @type {HTMLInputElement} */ (tag("input"));
  if (field.type === "boolean") {
    control.type = "checkbox";
    control.checked = field.default === true;
    return { control, value: () => control.checked };
  }
  control.required = required;
  if (field.default !== undefined) control.value = String(field.default);
  if (field.type === "string") {
    if (field.maxLength !== undefined) control.maxLength = field.maxLength;
    return { control, value: () => (control.value === "" && !required ? undefined : control.value) };
  }
  control.type = "number";
  control.step = field.type === "integer" ? "1" : "any";
  if (field.minimum !== undefined) control.min = String(field.minimum);
  if (field.maximum !== undefined) control.max = String(field.maximum);
  return { control, value: () => (control.value === "" ? undefined : control.valueAsNumber) };
}
